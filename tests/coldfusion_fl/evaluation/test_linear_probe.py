"""The linear probe of small and odd training rows."""

import warnings
from dataclasses import replace

import numpy as np
import pytest

from coldfusion_fl.errors import MismatchError
from coldfusion_fl.evaluation.linear_probe import fit_probe


def features(rows):
    return np.random.default_rng(0).normal(size=(rows, 4)).astype(np.float32)


@pytest.mark.parametrize("metric", ["accuracy", "macro-f1", "matthews"])
@pytest.mark.parametrize(
    "labels",
    [[0, 0, 0, 1], [0, 0, 0, 0, 2], [0, 0, 0, 0, 1, 2], [0, 0, 0, 0, 0, 1, 1], [0, 0, 1], [0, 1], [0, 1, 2], [1, 1, 1]],
)  # fmt: skip
def test_a_fold_without_a_class_is_no_warning(task, metric, labels):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        probe = fit_probe(replace(task, metric=metric), features(len(labels)), np.array(labels))
        assert probe.predict(features(9)).shape == (9,)


def test_the_penalty_is_chosen_in_the_folds_that_have_two_classes(task):
    """Two folds of three test on rows of the first class only, and train on both classes."""
    labels = np.array([0] * 9 + [1])
    probe = fit_probe(task, features(10), labels)
    assert np.isfinite(probe.cv_results_["mean_test_score"]).all()
    assert probe.n_splits_ == 2


@pytest.mark.parametrize("rows", [3, 9])
def test_features_that_are_too_large_are_an_error_of_ours(task, regression, rows):
    largest = np.finfo(np.float32).max * np.where(np.arange(rows) % 2, 1, -1)[:, None].repeat(4, axis=1)
    for probed, labels in ((task, np.arange(rows) % 2), (regression, np.arange(rows, dtype=np.float32))):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(MismatchError):
                fit_probe(probed, largest.astype(np.float32), labels)
