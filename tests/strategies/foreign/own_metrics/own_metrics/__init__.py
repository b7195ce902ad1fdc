"""own-metrics."""
