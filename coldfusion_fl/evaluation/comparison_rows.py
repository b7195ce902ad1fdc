"""A comparison as rows: one for each task and model, and then for the means over several tasks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from coldfusion_fl.evaluation.comparison import Comparison

_OF_TASK = ("metric", "train_examples", "test_examples", "test_rows_hash", "baseline")
_OF_DIFFERENCE = ("difference", "low", "high", "outcome", "rows_needed", "verdict")
COLUMNS = ("task", "model", "mode", "head", *_OF_TASK, "score", *_OF_DIFFERENCE)


def comparison_rows(comparison: "Comparison") -> list[dict[str, Any]]:
    """All rows, with keys of `COLUMNS`; of the means, some are missing."""
    both = {"mode": comparison.mode, "head": comparison.head}
    found = []
    for task in comparison.tasks:
        about = {"task": task.task, **both} | {key: getattr(task, key) for key in _OF_TASK}
        found += [about | row for row in rows_of_task(comparison, task.task, task.scores)]
    if comparison.means:
        about = {"task": name_of_mean(comparison), **both, "baseline": comparison.means.baseline}
        found += [about | row for row in rows_of_task(comparison, None, comparison.means.scores)]
    return found


def rows_of_task(comparison: "Comparison", task: str | None, scores: Sequence[float]) -> list[dict[str, Any]]:
    """For each model, its score on a task, or over the mean (None), and its difference; None for the reference's."""
    differences = {one.model: one for one in comparison.differences if one.task == task}
    return [
        {"model": model.model, "score": score}
        | {key: getattr(differences.get(model.model), key, None) for key in _OF_DIFFERENCE}
        for model, score in zip(comparison.models, scores, strict=True)
    ]


def name_of_mean(comparison: "Comparison") -> str:
    """What the means are called in the column of the tasks."""
    return f"mean of {len(comparison.tasks)} tasks"
