"""plain-torch."""
