"""own-loop."""
