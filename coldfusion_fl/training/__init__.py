"""Training on tasks, and what makes it fast."""
