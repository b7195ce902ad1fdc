"""95 % intervals of the differences between two bases' scores, and what they say in words.

A node estimates the standard error of its own difference (`evaluation.bootstrap`). An interval is the difference plus
and minus 1.96 standard errors. It covers the choice of the test rows. It does not cover what another seed, other
training rows or other tasks would change.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from coldfusion_fl import formatting
from coldfusion_fl.errors import count

# The scores that a run computes; the finetuned score would take a whole training for each task.
SCORED = ("frozen", "few-shot")
# A node reports the error of a mode's difference under the mode with this ending, in points.
DIFFERENCE_ERROR = "-difference-error"
INTERVAL_NOTE = "The intervals (95 %) cover the choice of the test rows, not other seeds or other tasks."

# Scores are between -100 and 100, so no difference varies more than this.
_LARGEST_ERROR = 200.0
_ERRORS_PER_SIDE = 1.96
_SHOWN_FALLS = 5

# A low and a high end, in points; both None where there is no interval.
Interval = tuple[float, float] | tuple[None, None]


@dataclass(frozen=True)
class Verdict:
    """What a comparison of two bases shows.

    Attributes:
        outcome: `better` or `worse` if the interval does not contain 0, `same` if it does, `unknown` without interval.
        sentence: the same in words. It can contain names that other parties chose, so it must be escaped.
    """

    outcome: Literal["better", "worse", "same", "unknown"]
    sentence: str


def is_error(value: object) -> bool:
    """Whether a value that a node reported can be the standard error of a difference between two scores."""
    return isinstance(value, int | float) and math.isfinite(value) and 0 <= value <= _LARGEST_ERROR


def interval(difference: float | None, error: object) -> Interval:
    """The interval of a difference with a standard error; none if one of them is missing or not valid."""
    if difference is None or not is_error(error):
        return None, None
    half = _ERRORS_PER_SIDE * float(error)  # type: ignore[arg-type]
    return difference - half, difference + half


def mean_interval(rows: Sequence[Mapping[str, Any]], mode: str) -> Interval:
    """The interval of the mean difference over tasks; none if a task has none.

    The errors of different tasks are independent. Tasks with the same test rows, such as two shards of a data set, are
    not: their errors are added up, which is the most that they can be together.

    Args:
        rows: the tasks, as `report.summarize` returns them.
        mode: one of `SCORED`.
    """
    if not rows or any(row[f"{mode}-low"] is None or row[f"{mode}-difference"] is None for row in rows):
        return None, None
    together: dict[object, float] = {}
    for number, row in enumerate(rows):
        same_rows = row.get("test-rows-hash") or number
        together[same_rows] = together.get(same_rows, 0.0) + (row[f"{mode}-high"] - row[f"{mode}-low"]) / 2
    mean = sum(row[f"{mode}-difference"] for row in rows) / len(rows)
    half = math.hypot(*together.values()) / len(rows)
    return mean - half, mean + half


def verdict(tasks: Sequence[Mapping[str, Any]], means: Sequence[Mapping[str, Any]]) -> list[Verdict]:
    """Say in words whether the fused base is better, first over the seen and the unseen tasks, then which tasks fell.

    Each task is tested alone. So of 40 tasks that did not change, one is expected among those that fell.

    Args:
        tasks: the tasks of a report.
        means: the means of a report.
    """
    found = []
    for role, is_seen in (("seen", True), ("unseen", False)):
        mean = next((row for row in means if row["task"] == f"mean of {role} tasks"), None)
        for mode in SCORED:
            if mean and mean[f"{mode}-difference"] is not None:
                compared = [row for row in tasks if row["seen"] is is_seen and row[f"{mode}-difference"] is not None]
                found.append(
                    _describe_mean(mean, mode, f"the {count(len(compared), f'{role} task')}".replace("the 1 ", "the "))
                )
    for mode in SCORED:
        fell = [row for row in tasks if row[f"{mode}-high"] is not None and row[f"{mode}-high"] < 0]
        if fell and sum(row[f"{mode}-difference"] is not None for row in tasks) > 1:
            found.append(_describe_falls(sorted(fell, key=lambda row: row[f"{mode}-difference"]), mode))
    return found


def _describe_mean(mean: Mapping[str, Any], mode: str, of: str) -> Verdict:
    points = format_difference(mean, mode)
    if mean[f"{mode}-low"] is None:
        return Verdict("unknown", f"On {of}: {points} {mode}, without an interval, so it may be chance.")
    if mean[f"{mode}-low"] > 0:
        return Verdict("better", f"Better on {of}: {points} {mode}.")
    if mean[f"{mode}-high"] < 0:
        return Verdict("worse", f"Worse on {of}: {points} {mode}.")
    return Verdict("same", f"No difference beyond chance on {of}: {points} {mode}.")


def _describe_falls(fell: Sequence[Mapping[str, Any]], mode: str) -> Verdict:
    if len(fell) == 1:
        return Verdict("worse", f"Worse on {fell[0]['task']}: {format_difference(fell[0], mode)} {mode}.")
    shown = [f"{row['task']} {format_difference(row, mode)}" for row in fell[:_SHOWN_FALLS]]
    more = f"; and {len(fell) - _SHOWN_FALLS} more" if len(fell) > _SHOWN_FALLS else ""
    return Verdict("worse", f"Worse on {len(fell)} tasks, {mode}: {'; '.join(shown)}{more}.")


def format_difference(row: Mapping[str, Any], mode: str) -> str:
    """A difference with its interval, such as `+3.4 points [+1.2, +5.6]`, or without one."""
    ends = formatting.interval(row[f"{mode}-low"], row[f"{mode}-high"])
    return f"{formatting.number(row[f'{mode}-difference'], signed=True)} points {ends}".rstrip()
