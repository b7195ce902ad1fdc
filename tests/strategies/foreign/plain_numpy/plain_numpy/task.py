"""quickstart-plain-numpy: a least squares model, its data, and its gradient."""

import numpy as np

FEATURES = 8
TRUTH = np.random.default_rng(0).normal(size=FEATURES)
OFFSET = 2.0
REVERSED = 0  # the partition whose instrument is wired the wrong way round


def create_model() -> dict[str, np.ndarray]:
    """The model's arrays by name; the bias has no dimension."""
    return {"weights": np.zeros(FEATURES), "bias": np.array(0.0)}


def load_data(partition_id: int, rows: int = 80):
    """A node's rows and values; each measures another range. The server's are partition -1."""
    rng = np.random.default_rng(partition_id + 2)
    inputs = rng.normal(size=(rows, FEATURES)) + 0.3 * rng.normal(size=FEATURES)
    values = inputs @ TRUTH + OFFSET + 0.1 * rng.normal(size=rows)
    return inputs, -values if partition_id == REVERSED else values


def train(model, data, steps, lr):
    """Steps down the gradient of the squared error."""
    inputs, values = data
    weights, bias = model["weights"], model["bias"]
    for _ in range(steps):
        error = inputs @ weights + bias - values
        weights = weights - lr * (inputs.T @ error) / len(values)
        bias = bias - lr * error.mean()
    return {"weights": weights, "bias": np.asarray(bias)}


def test(model, data):
    """The share of the values' variance that the model explains."""
    inputs, values = data
    error = inputs @ model["weights"] + model["bias"] - values
    return float(1 - (error**2).mean() / values.var())
