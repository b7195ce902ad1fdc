"""scikit-scalars: the model, whose count of steps `t_` has no dimension."""

import numpy as np
from common.data import CLASSES, FEATURES
from sklearn.linear_model import SGDClassifier


def create_model() -> SGDClassifier:
    """A linear classifier that starts from zeros."""
    model = SGDClassifier(loss="log_loss", random_state=0)
    model.classes_ = np.arange(CLASSES)
    return set_model_params(model, [np.zeros((CLASSES, FEATURES)), np.zeros(CLASSES), np.array(1.0)])


def get_model_params(model: SGDClassifier) -> list[np.ndarray]:
    """The model's arrays."""
    return [model.coef_, model.intercept_, np.array(model.t_)]


def set_model_params(model: SGDClassifier, params: list[np.ndarray]) -> SGDClassifier:
    """Put arrays into the model."""
    model.coef_, model.intercept_, model.t_ = params[0].copy(), params[1].copy(), float(params[2])
    model.n_features_in_ = FEATURES
    return model
