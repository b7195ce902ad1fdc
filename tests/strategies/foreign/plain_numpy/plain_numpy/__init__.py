"""quickstart-plain-numpy."""
