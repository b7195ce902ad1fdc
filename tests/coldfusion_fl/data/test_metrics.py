import numpy as np
import pytest

from coldfusion_fl.data.metrics import score


@pytest.mark.parametrize(
    ("metric", "predicted", "expected"),
    [
        ("accuracy", [0, 1, 1, 1], 75.0),
        ("macro-f1", [0, 1, 1, 1], 100 * (2 / 3 + 4 / 5) / 2),
        ("matthews", [0, 0, 1, 1], 100.0),
        ("matthews", [1, 1, 1, 1], 0.0),
    ],
)
def test_class_metrics_in_points(metric, predicted, expected):
    assert score(metric, np.array([0, 0, 1, 1]), np.array(predicted)) == pytest.approx(expected)


def test_spearman():
    truth = np.array([1.0, 2.0, 3.0])
    assert score("spearman", truth, truth**3) == pytest.approx(100)
    assert score("spearman", truth, np.ones(3)) == 0.0
