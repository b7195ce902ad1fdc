"""The settings of a run, and the components that its texts name."""
