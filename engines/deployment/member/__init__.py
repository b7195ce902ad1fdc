"""A member of a federation: its settings, its checks and its SuperNode."""
