"""The intervals of a run's differences between two bases' scores, and what they say in words.

A node estimates the standard error of its own difference. `evaluation.intervals` makes an interval of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coldfusion_fl import formatting
from coldfusion_fl.errors import count
from coldfusion_fl.evaluation import intervals
from coldfusion_fl.evaluation.intervals import Interval, Outcome

# The scores that a run computes; the finetuned score would take a whole training for each task.
SCORED = ("frozen", "few-shot")

_SHOWN_FALLS = 5


@dataclass(frozen=True)
class Verdict:
    """What a comparison of two bases shows.

    Attributes:
        outcome: `better` or `worse` if the interval does not contain 0, `same` if it does, `unknown` without interval.
        sentence: the same in words. It can contain names that other parties chose, so it must be escaped.
    """

    outcome: Outcome
    sentence: str


def mean_interval(rows: Sequence[Mapping[str, Any]], mode: str) -> Interval:
    """The interval of the mean difference over the tasks of a report; see `evaluation.intervals.mean_interval`.

    Args:
        rows: the tasks, as `report.summarize` returns them.
        mode: one of `SCORED`.
    """
    differences = [row[f"{mode}-difference"] for row in rows]
    if None in differences:
        return None, None
    same_rows = [row.get("test-rows-hash") or number for number, row in enumerate(rows)]
    ends = [(row[f"{mode}-low"], row[f"{mode}-high"]) for row in rows]
    return intervals.mean_interval(differences, ends, same_rows)


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
    found = intervals.outcome(mean[f"{mode}-low"], mean[f"{mode}-high"])
    sentences: dict[Outcome, str] = {
        "better": f"Better on {of}: {points} {mode}.",
        "worse": f"Worse on {of}: {points} {mode}.",
        "same": f"No difference beyond chance on {of}: {points} {mode}.",
        "unknown": f"On {of}: {points} {mode}, without an interval, so it may be chance.",
    }
    return Verdict(found, sentences[found])


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
