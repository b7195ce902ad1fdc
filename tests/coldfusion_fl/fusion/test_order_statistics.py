"""Trimmed means by a sorting network, for every number of contributions."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from coldfusion_fl.fusion.order_statistics import MAX_ROWS, sorting_network, trimmed_mean


def expected(rows, removed):
    return np.sort(rows, axis=0)[removed : len(rows) - removed].mean(axis=0)


@pytest.mark.parametrize("count", range(1, 11))
def test_all_columns_of_zeros_and_ones_are_sorted_so_all_columns_are(count):
    """Knuth, The Art of Computer Programming 3, theorem 5.3.4Z."""
    rows = np.array(list(itertools.product((0, 1), repeat=count)), np.float32).T
    for removed in range((count + 1) // 2):
        np.testing.assert_array_equal(trimmed_mean([*rows.copy()], removed), expected(rows, removed))


@given(
    rows=st.one_of(st.integers(1, 40), st.integers(MAX_ROWS - 1, MAX_ROWS + 2)).flatmap(
        lambda count: arrays.arrays(np.float32, (count, 3), elements=st.floats(-1e3, 1e3, width=32))
    ),
    cut=st.floats(0, 0.49),
)
def test_it_is_the_mean_of_the_inner_part_of_the_sorted_values(rows, cut):
    removed = int(cut * len(rows))
    np.testing.assert_allclose(trimmed_mean([*rows.copy()], removed), expected(rows, removed), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(("count", "most"), [(8, 17), (32, 157)])
def test_a_median_takes_fewer_comparators_than_a_sort(count, most):
    assert len(sorting_network(count, (count - 1) // 2, count // 2 + 1)) == most < len(sorting_network(count, 0, count))


def test_half_precision_is_summed_in_single_precision():
    rows = np.full((33, 4), 3000, np.float16)
    np.testing.assert_array_equal(trimmed_mean([*rows.copy()], 0), np.full(4, 3000, np.float16))
