"""The standard error of the difference between two bases' scores on the same test rows, by a paired bootstrap.

The rows are resampled with replacement, and both scores are computed on the same draws. So the error covers the choice
of the test rows alone. It does not cover what another seed, other training rows or other tasks would change.

Efron, Tibshirani: An Introduction to the Bootstrap, 1993, chapter 6.
"""

from collections.abc import Iterator

import numpy as np

# With this many resamples, chance changes the error by 2 %. For a correlation of tens of thousands of rows, a hundred
# resamples take seconds, so there it is the smaller number, and 5 %.
_RESAMPLES, _FEWEST_RESAMPLES = 1000, 200
_MAX_WORK = 2**22
_SEED = 0
# The most weights that are in memory at a time, in float64 numbers.
_MAX_WEIGHTS = 2**19


def difference_error(metric: str, labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> float | None:
    """Estimate the standard error of `score(after) - score(before)`, in points.

    A metric depends on how often each combination of label and predictions occurs, not on the order of the rows. So
    a resample is a multinomial draw over the different combinations. For class indices there are few of them.

    Args:
        metric: a key of `metrics.METRICS`.
        labels: shape (n,): class indices or numbers.
        before: the predictions of the first base, shape (draws, n); a score is the mean over its draws.
        after: those of the later base, shape (draws, n); the number of draws may differ.

    Returns:
        The error; None for fewer than two rows.
    """
    rows = len(labels)
    if rows < 2:
        return None
    combinations, counts = np.unique(
        np.column_stack([labels, *before, *after]).astype(np.float64), axis=0, return_counts=True
    )
    truth, predicted = combinations[:, 0], combinations[:, 1:].T
    generator = np.random.default_rng(_SEED)
    differences: list[np.ndarray] = []
    resamples = min(_RESAMPLES, max(_FEWEST_RESAMPLES, _MAX_WORK // len(counts)))
    at_once = max(1, _MAX_WEIGHTS // len(counts))
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        weights = generator.multinomial(rows, counts / rows, size=size).T.astype(np.float64, order="C")
        scores = np.array(WEIGHTED_METRICS[metric](weights, truth, predicted))
        differences.append(scores[len(before) :].mean(axis=0) - scores[: len(before)].mean(axis=0))
    # A bootstrap variance is that of n rows without Bessel's correction; with it, the error of an accuracy is the usual
    # one of a paired difference.
    correction = np.sqrt(rows / (rows - 1))
    return float(100 * correction * np.concatenate(differences).std(ddof=1))


# The metrics of `data.metrics` on many resamples at once, for several predictions. Each takes weights of shape
# (rows, resamples), which add up to the same number in each resample, labels of shape (rows,) and predictions of shape
# (k, rows); it returns k arrays of shape (resamples,). The resamples are the last axis, because rows are then sorted
# and added up in contiguous memory.


def _accuracy(weights: np.ndarray, truth: np.ndarray, predictions: np.ndarray) -> list[np.ndarray]:
    return [(truth == predicted) @ weights / weights[:, 0].sum() for predicted in predictions]


def _macro_f1(weights: np.ndarray, truth: np.ndarray, predictions: np.ndarray) -> list[np.ndarray]:
    scores = []
    for true, claimed, right in _class_weights(weights, truth, predictions):
        # A class that a resample lacks is not in its mean, as in scikit-learn.
        present = true + claimed > 0
        f1 = np.divide(2 * right, true + claimed, out=np.zeros_like(right), where=present)
        scores.append(f1.sum(axis=0) / present.sum(axis=0))
    return scores


def _matthews(weights: np.ndarray, truth: np.ndarray, predictions: np.ndarray) -> list[np.ndarray]:
    rows = weights[:, 0].sum()
    return [
        _correlation(
            rows * right.sum(axis=0) - (true * claimed).sum(axis=0),
            rows**2 - (true**2).sum(axis=0),
            rows**2 - (claimed**2).sum(axis=0),
        )
        for true, claimed, right in _class_weights(weights, truth, predictions)
    ]


def _class_weights(
    weights: np.ndarray, truth: np.ndarray, predictions: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The weight of each class among the labels, the predictions and the right predictions: (classes, resamples)."""
    classes = np.union1d(truth, predictions)[:, None]
    is_true = truth == classes
    true = is_true @ weights
    for predicted in predictions:
        is_predicted = predicted == classes
        yield true, is_predicted @ weights, (is_true & is_predicted) @ weights


def _spearman(weights: np.ndarray, truth: np.ndarray, predictions: np.ndarray) -> list[np.ndarray]:
    true = _centred_ranks(weights, truth)
    true_variance = np.einsum("ij,ij,ij->j", weights, true, true)
    scores = []
    for predicted in predictions:
        ranks = _centred_ranks(weights, predicted)
        covariance = np.einsum("ij,ij,ij->j", weights, true, ranks)
        scores.append(_correlation(covariance, true_variance, np.einsum("ij,ij,ij->j", weights, ranks, ranks)))
    return scores


def _centred_ranks(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The rank of each value among the rows of a resample, minus the mean rank; shape (rows, resamples).

    Equal values have the mean of their ranks.
    """
    order = np.argsort(values, kind="stable")
    _, starts, group = np.unique(values[order], return_index=True, return_inverse=True)
    sizes = np.add.reduceat(weights[order], starts, axis=0)
    ranks = np.cumsum(sizes, axis=0) - sizes / 2 - weights[:, 0].sum() / 2
    group_of_row = np.empty_like(group)
    group_of_row[order] = group
    centred: np.ndarray = ranks[group_of_row]
    return centred


def _correlation(covariance: np.ndarray, variance: np.ndarray, other_variance: np.ndarray) -> np.ndarray:
    """The correlation; 0 where one side is constant, as a prediction without information scores 0."""
    denominator = np.sqrt(variance * other_variance)
    return np.divide(covariance, denominator, out=np.zeros_like(denominator), where=denominator > 0)


WEIGHTED_METRICS = {"accuracy": _accuracy, "macro-f1": _macro_f1, "matthews": _matthews, "spearman": _spearman}
