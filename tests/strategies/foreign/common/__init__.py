"""What the ten small projects share: data, a PyTorch model, a client, the choice of the strategy, and the report."""
