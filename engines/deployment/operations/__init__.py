"""Operating a federation: service files, health checks and metrics."""
