"""The commands that work on models outside of a run."""
