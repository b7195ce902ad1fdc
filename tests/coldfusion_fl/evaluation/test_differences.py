"""What a difference shows, in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfusion_fl.evaluation.differences import describe_difference, mean_difference
from coldfusion_fl.evaluation.intervals import interval

POINTS = st.floats(-100, 100)
ERRORS = st.floats(0, 50)


def describe(difference, error, rows=200):
    return describe_difference("m", "t", difference, interval(difference, error), rows)


@pytest.mark.parametrize(
    ("difference", "error", "verdict"),
    [
        (2.15, 0.9, "better by 2.1 [0.4, 3.9]"),
        (-2.15, 0.9, "worse by 2.1 [0.4, 3.9]"),
        (1.0, 1.08, "no difference beyond chance on 200 rows: about 900 would be needed"),
        (0.06, 5.0, "no difference beyond chance on 200 rows: more than a million would be needed"),
        (0.0, 1.0, "no difference beyond chance on 200 rows"),
        (1.0, None, "unknown, without an interval: there are fewer than two test rows"),
    ],
)
def test_the_verdict_in_words(difference, error, verdict):
    assert describe(difference, error).verdict == verdict


@given(POINTS, ERRORS, st.integers(2, 10_000))
def test_the_opposite_difference_is_described_by_the_opposite_words(difference, error, rows):
    one, other = describe(difference, error, rows), describe(-difference, error, rows)
    swapped = one.verdict.replace("better", "WORSE").replace("worse", "better").replace("WORSE", "worse")
    assert other.verdict == swapped
    assert other.rows_needed == one.rows_needed
    assert (one.rows_needed is None) or one.outcome == "same"


@given(st.lists(st.tuples(POINTS, ERRORS), min_size=2, max_size=6))
def test_the_rows_of_a_mean_count_once(tasks):
    of_tasks = [describe(*one) for one in tasks]
    same = mean_difference(of_tasks, ["rows"] * len(tasks))
    other = mean_difference(of_tasks, [str(number) for number in range(len(tasks))])
    assert same.difference == other.difference
    assert (same.test_examples, other.test_examples) == (200, 200 * len(tasks))
    assert same.high - same.low >= other.high - other.low - 1e-9


def test_a_mean_with_an_unknown_interval_is_unknown():
    assert mean_difference([describe(1.0, 1.0), describe(1.0, None, rows=1)], ["a", "b"]).outcome == "unknown"
