"""quickstart-logistic."""
