"""95 % intervals of the differences between two scores, in points.

An interval is the difference plus and minus 1.96 standard errors (see `bootstrap`). An accuracy alone has the interval
of a proportion. It covers the choice of the test
rows. It does not cover what another seed, other training rows or other tasks would change.
"""

import math
from collections.abc import Sequence
from typing import Literal

INTERVAL_NOTE = "The intervals (95 %) cover the choice of the test rows, not other seeds or other tasks."
# With fewer test rows one answer moves a score by a point or more.
TINY = 100

# Scores are between -100 and 100, so no difference varies more than this.
_LARGEST_ERROR = 200.0
_ERRORS_PER_SIDE = 1.96
# A smaller difference is shown as 0.0.
_SMALLEST_SHOWN = 0.05

# A low and a high end, in points; both None where there is no interval.
Interval = tuple[float, float] | tuple[None, None]
# Of a difference: `same` if its interval contains 0, `unknown` without an interval.
Outcome = Literal["better", "worse", "same", "unknown"]


def is_error(value: object) -> bool:
    """Whether a value, such as one that a node reported, can be the standard error of a difference of two scores."""
    return isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= _LARGEST_ERROR


def interval(difference: float | None, error: object) -> Interval:
    """The interval of a difference with a standard error; none if one of them is missing or not valid."""
    if difference is None or not is_error(error):
        return None, None
    half = _ERRORS_PER_SIDE * float(error)  # type: ignore[arg-type]
    return difference - half, difference + half


def proportion_interval(points: float, rows: int) -> Interval:
    """The 95 % interval of an accuracy (Wilson's), which also holds near 0 and 100 points.

    Args:
        points: the accuracy, 0 to 100.
        rows: the number of test rows.
    """
    if not rows:
        return None, None
    share, square = points / 100, _ERRORS_PER_SIDE**2
    middle = (share + square / (2 * rows)) / (1 + square / rows)
    half = _ERRORS_PER_SIDE / (1 + square / rows) * math.sqrt(share * (1 - share) / rows + square / (4 * rows**2))
    return 100 * (middle - half), 100 * (middle + half)


def mean_interval(differences: Sequence[float], intervals: Sequence[Interval], rows: Sequence[object]) -> Interval:
    """The interval of the mean of differences on several tasks; none if a task has none.

    The errors of different tasks are independent. Tasks with the same test rows, such as two shards of a data set, are
    not: their errors are added up, which is the most that they can be together.

    Args:
        differences: of n tasks, in points.
        intervals: those of the n differences.
        rows: identifies the test rows of each of the n tasks: equal for equal rows.
    """
    together: dict[object, float] = {}
    for (low, high), same_rows in zip(intervals, rows, strict=True):
        if low is None or high is None:
            return None, None
        together[same_rows] = together.get(same_rows, 0.0) + (high - low) / 2
    if not together:
        return None, None
    mean = sum(differences) / len(differences)
    half = math.hypot(*together.values()) / len(differences)
    return mean - half, mean + half


def outcome(low: float | None, high: float | None) -> Outcome:
    """What the interval of a difference shows."""
    if low is None or high is None:
        return "unknown"
    return "better" if low > 0 else "worse" if high < 0 else "same"


def rows_needed(difference: float, half_width: float, rows: int) -> int | None:
    """The number of test rows with which the interval of a difference would just not contain 0.

    The width of an interval shrinks with the square root of the number of rows. So N = n (h / d)², if more rows leave
    the difference as it is.

    Args:
        difference: d, in points.
        half_width: h, half the width of its interval, in points.
        rows: n, the number of rows that both were computed on.

    Returns:
        N, rounded up to two significant digits; None for a difference that is shown as 0.0.
    """
    if abs(difference) < _SMALLEST_SHOWN:
        return None
    needed = rows * (half_width / difference) ** 2
    unit = 10 ** max(0, math.floor(math.log10(max(needed, 1))) - 1)
    return math.ceil(needed / unit) * unit
