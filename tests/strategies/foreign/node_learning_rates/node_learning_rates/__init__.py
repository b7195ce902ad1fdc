"""node-learning-rates."""
