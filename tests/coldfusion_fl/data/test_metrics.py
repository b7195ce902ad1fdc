import warnings

import numpy as np
import pytest

from coldfusion_fl.data.metrics import METRICS, score
from coldfusion_fl.errors import ErrorCode, MismatchError


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


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_predictions_that_are_not_numbers_have_no_score(metric, value):
    with pytest.raises(MismatchError) as error:
        score(metric, np.array([0, 1, 1]), np.array([0.0, value, 1.0]))
    assert error.value.code == ErrorCode.TRAINING_DIVERGED


@pytest.mark.parametrize("metric", ["accuracy", "macro-f1", "matthews"])
@pytest.mark.parametrize(("truth", "predicted"), [([1, 1], [1, 1]), ([1, 1], [0, 0]), ([0, 2], [1, 1]), ([0], [0])])
def test_a_class_that_is_missing_is_no_warning(metric, truth, predicted):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert 0 <= score(metric, np.array(truth), np.array(predicted)) <= 100
