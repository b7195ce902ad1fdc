"""A run in a process of its own: the engine that executes it, the process, and how its progress is shown."""
