"""quickstart-logistic: the model and the data."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

CENTRAL = 400  # the server's rows; the others are the nodes'


def create_model() -> LogisticRegression:
    """A model that makes one pass over its data, and starts from zeros."""
    model = LogisticRegression(solver="saga", max_iter=1, warm_start=True)
    model.classes_ = np.arange(10)
    set_model_params(model, [np.zeros((10, 64)), np.zeros(10)])
    return model


def get_model_params(model: LogisticRegression) -> list[np.ndarray]:
    """The model's arrays."""
    return [model.coef_, model.intercept_]


def set_model_params(model: LogisticRegression, params: list[np.ndarray]) -> None:
    """Put arrays into the model."""
    model.coef_, model.intercept_ = params


def load_central():
    """The server's rows and labels."""
    rows, labels = load_digits(return_X_y=True)
    return rows[:CENTRAL] / 16, labels[:CENTRAL]


def load_data(partition_id: int, num_partitions: int):
    """A node's rows and labels: to train with, and to test with."""
    rows, labels = load_digits(return_X_y=True)
    rows, labels = rows[CENTRAL + partition_id :: num_partitions] / 16, labels[CENTRAL + partition_id :: num_partitions]
    cut = len(rows) * 3 // 4
    return (rows[:cut], labels[:cut]), (rows[cut:], labels[cut:])
