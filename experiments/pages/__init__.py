"""The page of an experiment, with its verdict in words."""
