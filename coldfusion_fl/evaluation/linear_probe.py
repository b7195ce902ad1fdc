"""A linear probe: a linear model on the features of a frozen encoder."""

import warnings

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from coldfusion_fl.data.metrics import METRICS
from coldfusion_fl.data.task import Task
from coldfusion_fl.errors import ErrorCode, MismatchError, first_line

_FOLDS = 3


def fit_probe(task: Task, features: np.ndarray, labels: np.ndarray) -> BaseEstimator:
    """Fit a linear probe on standardised features: logistic regression, or ridge for a regression task.

    The penalty is chosen by cross-validation on the training rows. A fixed penalty would favour some tasks: the best
    one differs by a factor of 100 between tasks scored by accuracy and by macro F1.

    Args:
        task: the task, for its classes and metric.
        features: shape (n, size).
        labels: shape (n,), as in `task.Examples`.

    Returns:
        A fitted scikit-learn estimator.

    Raises:
        MismatchError: the features are too large for a linear model.
    """
    if task.classes is None:
        linear, grid = Ridge(), {"linear__alpha": [1.0, 10.0, 100.0, 1000.0]}
        folds = list(KFold(_FOLDS).split(features)) if len(labels) >= _FOLDS else []
    else:
        if len(np.unique(labels)) < 2:  # all drawn rows are of one class, which LogisticRegression rejects
            return DummyClassifier().fit(features, labels)
        linear, grid = LogisticRegression(max_iter=200), {"linear__C": [0.01, 0.1, 1.0]}
        folds = _class_folds(features, labels)
    probe = Pipeline([("scale", StandardScaler()), ("linear", linear)])
    if folds:
        metric = make_scorer(METRICS[task.metric].function)
        probe = GridSearchCV(probe, grid, cv=folds, scoring=metric, error_score="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", RuntimeWarning)  # of an overflow, which the result shows too
        try:
            return probe.fit(features, labels)
        except ValueError as failure:  # features that are too large to be standardised
            raise MismatchError(
                f"no linear probe can be fitted on '{task.name}': {first_line(failure).rstrip('.')}. Check the model's "
                "weights.",
                code=ErrorCode.TRAINING_DIVERGED,
            ) from None


def _class_folds(features: np.ndarray, labels: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """The training and test rows of each fold, without the folds that train on one class alone.

    The search needs one row per fold in the largest class; with fewer, there is no fold.
    """
    if np.bincount(labels).max() < _FOLDS:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # for classes with fewer rows than folds
        folds = list(StratifiedKFold(_FOLDS).split(features, labels))
    return [(train, test) for train, test in folds if len(np.unique(labels[train])) > 1]
