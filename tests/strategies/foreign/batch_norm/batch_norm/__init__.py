"""batch-norm."""
