"""The metrics of tasks, computed by scikit-learn and scipy."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from coldfusion_fl.errors import ErrorCode, MismatchError

# scipy and scikit-learn take more than a second to import, so they are imported only when a metric is computed.


def _accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(truth, predicted))


def _macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    from sklearn.metrics import f1_score

    return float(f1_score(truth, predicted, average="macro", zero_division=0))


def _matthews(truth: np.ndarray, predicted: np.ndarray) -> float:
    from sklearn.metrics import matthews_corrcoef

    with warnings.catch_warnings():
        # Of labels and predictions of a single class, such as those of a small fold, which score 0.
        warnings.filterwarnings("ignore", "A single label was found", UserWarning)
        return float(matthews_corrcoef(truth, predicted))


def _spearman(truth: np.ndarray, predicted: np.ndarray) -> float:
    from scipy.stats import ConstantInputWarning, spearmanr

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        correlation = float(spearmanr(truth, predicted).statistic)
    # The correlation with a constant prediction is undefined. It scores 0, as a prediction without information.
    return 0.0 if np.isnan(correlation) else correlation


@dataclass(frozen=True)
class Metric:
    """A metric of a task.

    Attributes:
        function: of labels and predictions, both of shape (n,); 1 is the best value.
        is_regression: whether labels and predictions are numbers; if not, they are class indices.
        lowest: the lowest value.
    """

    function: Callable[[np.ndarray, np.ndarray], float]
    is_regression: bool = False
    lowest: float = 0.0


METRICS: dict[str, Metric] = {
    "accuracy": Metric(_accuracy),
    "macro-f1": Metric(_macro_f1),
    "matthews": Metric(_matthews, lowest=-1.0),
    "spearman": Metric(_spearman, is_regression=True, lowest=-1.0),
}


def score(metric: str, truth: np.ndarray, predicted: np.ndarray) -> float:
    """Score predictions against labels, in points.

    Args:
        metric: a key of `METRICS`.
        truth: the labels, shape (n,): class indices (int) or numbers (float).
        predicted: the predictions, of the same shape and kind.

    Returns:
        100 times the metric: 0 to 100, or -100 to 100 for the two correlations (`matthews` and `spearman`).

    Raises:
        MismatchError: a prediction is NaN or infinite.
    """
    if not np.isfinite(predicted).all():
        raise MismatchError(
            "the predictions are not numbers, so they have no score. Lower the learning rate of the training, or check "
            "the model's weights.",
            code=ErrorCode.TRAINING_DIVERGED,
        )
    return 100 * METRICS[metric].function(truth, predicted)
