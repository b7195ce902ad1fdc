"""A linear probe: what a frozen encoder's features tell of a task."""

import warnings

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from coldfusion_fl.data.metrics import METRICS
from coldfusion_fl.data.task import Task

_FOLDS = 3


def fit_probe(task: Task, features: np.ndarray, labels: np.ndarray) -> BaseEstimator:
    """A linear probe on standardised features; its penalty is chosen by cross-validation on the training rows alone.

    The best penalty differs a hundredfold between tasks of accuracy and of macro F1: a fixed one would favour some.

    Args:
        task: its classes and metric.
        features: shape (n, size).
        labels: shape (n,), as in `tasks.Examples`.
    """
    if task.classes is None:
        linear, grid = Ridge(), {"linear__alpha": [1.0, 10.0, 100.0, 1000.0]}
        folds = len(labels) >= _FOLDS
    else:
        counts = np.bincount(labels)
        if np.count_nonzero(counts) < 2:  # one class was drawn: there is nothing to fit
            return DummyClassifier().fit(features, labels)
        linear, grid = LogisticRegression(max_iter=200), {"linear__C": [0.01, 0.1, 1.0]}
        folds = counts.max() >= _FOLDS
    probe = Pipeline([("scale", StandardScaler()), ("linear", linear)])
    if folds:
        probe = GridSearchCV(probe, grid, cv=_FOLDS, scoring=make_scorer(METRICS[task.metric]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer rows than folds
        return probe.fit(features, labels)
