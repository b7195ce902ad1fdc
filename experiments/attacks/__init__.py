"""Contributors that attack a run: the attacks, and the engine that simulates them."""
