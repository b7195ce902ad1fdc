"""filtered-replies."""
