"""The difference between the scores of two models, with its interval and what it shows in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from coldfusion_fl import formatting
from coldfusion_fl.evaluation.intervals import Interval, Outcome, mean_interval, outcome, rows_needed

_MOST_ROWS = 1_000_000


@dataclass(frozen=True)
class Difference:
    """A model's score minus that of the reference.

    Attributes:
        model: the model.
        task: the task's name; None: the mean over the tasks.
        difference: in points.
        low: the low end of the 95 % interval, in points; None for fewer than two test rows.
        high: the high end.
        test_examples: the number of test rows. In a mean, tasks with the same test rows count once.
        outcome: `better` or `worse` if the interval does not contain 0, `same` if it does, `unknown` without interval.
        rows_needed: about how many test rows would show a difference of this size; None if it is not `same`, or is
            shown as 0.0.
        verdict: the outcome in words.
    """

    model: str
    task: str | None
    difference: float
    low: float | None
    high: float | None
    test_examples: int
    outcome: Outcome
    rows_needed: int | None
    verdict: str

    @property
    def interval(self) -> Interval:
        """Both ends, in points."""
        return (None, None) if self.low is None or self.high is None else (self.low, self.high)


def describe_difference(model: str, task: str | None, difference: float, ends: Interval, rows: int) -> Difference:
    """A difference with what it shows.

    Args:
        model: the model.
        task: the task's name; None: the mean over tasks.
        difference: the model's score minus that of the reference, in points.
        ends: its interval.
        rows: the number of test rows.
    """
    low, high = ends
    found = outcome(low, high)
    needed = None
    if found == "same" and low is not None and high is not None:
        needed = rows_needed(difference, (high - low) / 2, rows)
    words = _to_words(found, difference, ends, rows, needed)
    return Difference(model, task, difference, low, high, rows, found, needed, words)


def _to_words(found: Outcome, difference: float, ends: Interval, rows: int, needed: int | None) -> str:
    low, high = ends
    if found == "unknown" or low is None or high is None:
        return "unknown, without an interval: there are fewer than two test rows"
    if found == "same":
        more = ""
        if needed:
            more = f": {f'about {needed:,}' if needed <= _MOST_ROWS else 'more than a million'} would be needed"
        return f"no difference beyond chance on {rows:,} rows{more}"
    if found == "worse":
        difference, low, high = -difference, -high, -low
    return f"{found} by {formatting.number(difference)} {formatting.interval(low, high, signed=False)}"


def mean_difference(differences: Sequence[Difference], test_rows: Sequence[str]) -> Difference:
    """The mean of a model's differences on several tasks.

    Args:
        differences: those of one model on n tasks.
        test_rows: identifies the test rows of each of the n tasks, see `Score.test_rows_hash`.
    """
    points = [one.difference for one in differences]
    ends = mean_interval(points, [one.interval for one in differences], test_rows)
    rows = dict(zip(test_rows, (one.test_examples for one in differences), strict=True))
    return describe_difference(differences[0].model, None, sum(points) / len(points), ends, sum(rows.values()))
