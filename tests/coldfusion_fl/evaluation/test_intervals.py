"""Intervals of score differences, and the number of test rows that would show a difference."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfusion_fl.evaluation.intervals import interval, is_error, outcome, rows_needed

POINTS = st.floats(-100, 100)
ERRORS = st.floats(0, 50)


@given(POINTS, ERRORS)
def test_an_interval_is_the_difference_and_its_standard_errors(difference, error):
    low, high = interval(difference, error)
    assert low <= difference <= high
    assert high - low == pytest.approx(3.92 * error, abs=1e-9)


@pytest.mark.parametrize("error", [None, -0.1, math.nan, math.inf, 1e9, "1", [1.0]])
def test_what_is_no_error_gives_no_interval(error):
    assert not is_error(error)
    assert interval(1.0, error) == (None, None)


@given(POINTS, ERRORS)
def test_the_outcome_of_the_opposite_difference_is_the_opposite(difference, error):
    opposite = {"better": "worse", "worse": "better", "same": "same"}
    assert outcome(*interval(-difference, error)) == opposite[outcome(*interval(difference, error))]
    assert outcome(None, None) == "unknown"


@given(st.floats(0.05, 100), st.floats(0.01, 50), st.integers(2, 100_000))
def test_with_the_needed_rows_an_interval_just_excludes_zero(difference, error, rows):
    needed = rows_needed(difference, 1.96 * error, rows)
    assert needed == rows_needed(-difference, 1.96 * error, rows)
    assert len(str(needed).rstrip("0")) <= 2  # two significant digits
    exact = rows * (1.96 * error / difference) ** 2
    assert exact <= needed * (1 + 1e-9)
    assert needed <= max(exact * 1.1, exact + 1) * (1 + 1e-9)


@given(st.floats(0.05, 50), st.floats(0.01, 50), st.integers(2, 100_000))
def test_only_a_difference_within_its_interval_needs_more_rows(difference, error, rows):
    low, high = interval(difference, error)
    if outcome(low, high) == "same":
        assert rows_needed(difference, (high - low) / 2, rows) >= rows
    else:
        assert rows_needed(difference, (high - low) / 2, 10 * rows) <= 11 * rows


@pytest.mark.parametrize("difference", [0.0, 0.04, -0.04])
def test_a_difference_of_nothing_needs_no_number_of_rows(difference):
    assert rows_needed(difference, 2.0, 200) is None
