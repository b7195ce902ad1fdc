"""The checks before a run: settings, base, tasks, and what the machine has."""
