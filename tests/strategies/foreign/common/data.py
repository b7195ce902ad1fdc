"""Points in four clusters. Every node has points of its own, and the server has points to test on."""

import numpy as np
from flwr.app import Context

FEATURES, CLASSES = 8, 4
CENTERS = np.random.default_rng(7).normal(size=(CLASSES, FEATURES))


def make_points(seed: int, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Points, shape (number, FEATURES), and their classes."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(CLASSES, size=number)
    points = CENTERS[classes] + 0.8 * rng.normal(size=(number, FEATURES))
    return points.astype(np.float32), classes


def load_data(context: Context):
    """A node's points: to train with, and to test with. The nodes have different numbers of them."""
    partition_id = int(context.node_config["partition-id"])
    points, classes = make_points(partition_id + 1, 80 + 40 * partition_id)
    cut = len(points) * 3 // 4
    return (points[:cut], classes[:cut]), (points[cut:], classes[cut:])


def load_central():
    """The server's points."""
    return make_points(0, 400)
