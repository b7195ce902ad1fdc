"""Whether arrays fit a base."""

import numpy as np
import pytest

from coldfusion_fl.arrays.mismatch import find_mismatch

BASE = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.float32)}


def test_a_fit_contribution():
    assert find_mismatch(BASE, {name: array + 1 for name, array in BASE.items()}) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"classifier.weight": np.zeros(2, np.float32)},
            "1 weight that the base does not have: 'classifier.weight' (a head",
        ),
        ({"b": None}, "lacks 1 weight of the base: 'b'"),
        ({"a": np.zeros((3, 2), np.float32)}, "'a' has the shape (3, 2), not the base's (2, 3)"),
        ({"a": np.zeros((2, 3), np.float64)}, "'a' has the type float64, not the base's float32"),
        ({"b": np.array([0, 0, np.nan, 0], np.float32)}, "'b' holds values that are not finite"),
        ({"b": np.array([0, -np.inf, 0, 0], np.float32)}, "'b' holds values that are not finite"),
    ],
)
def test_a_mismatch_is_explained(change, words):
    contribution = {**BASE, **change}
    contribution = {name: array for name, array in contribution.items() if array is not None}
    assert words in find_mismatch(BASE, contribution)
