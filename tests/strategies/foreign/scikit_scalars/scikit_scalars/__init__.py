"""scikit-scalars."""
