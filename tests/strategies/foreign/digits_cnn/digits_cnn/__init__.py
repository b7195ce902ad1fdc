"""quickstart-digits-cnn."""
