"""The means of the middle values, for every number of contributions."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from coldfusion_fl.fusion.order_statistics import MAX_ROWS, middle_mean, sorting_network


def expected(rows, first, stop):
    return np.sort(rows, axis=0)[first:stop].mean(axis=0)


@pytest.mark.parametrize("count", range(1, 11))
def test_all_columns_of_zeros_and_ones_are_sorted_so_all_columns_are(count):
    """Knuth, The Art of Computer Programming 3, theorem 5.3.4Z."""
    rows = np.array(list(itertools.product((0, 1), repeat=count)), np.float32).T
    for first in range(count):
        for stop in range(first + 1, count + 1):
            np.testing.assert_array_equal(middle_mean([*rows.copy()], first, stop), expected(rows, first, stop))


@given(
    rows=st.one_of(st.integers(1, 40), st.integers(MAX_ROWS - 1, MAX_ROWS + 2)).flatmap(
        lambda count: arrays.arrays(np.float32, (count, 3), elements=st.floats(-1e3, 1e3, width=32))
    ),
    cut=st.floats(0, 0.49),
)
def test_it_is_the_mean_of_a_part_of_the_sorted_values(rows, cut):
    removed = int(cut * len(rows))
    stop = len(rows) - removed
    np.testing.assert_allclose(
        middle_mean([*rows.copy()], removed, stop), expected(rows, removed, stop), rtol=1e-5, atol=1e-3
    )


@pytest.mark.parametrize(("count", "most"), [(8, 17), (32, 157)])
def test_a_median_takes_fewer_comparators_than_a_sort(count, most):
    assert len(sorting_network(count, (count - 1) // 2, count // 2 + 1)) == most < len(sorting_network(count, 0, count))


def test_half_precision_is_summed_in_single_precision():
    rows = np.full((33, 4), 3000, np.float16)
    np.testing.assert_array_equal(middle_mean([*rows.copy()], 0, 33), np.full(4, 3000, np.float16))
