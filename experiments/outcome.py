"""Writes the results of an experiment: reports and figures, from the scores only."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from coldfusion_fl.atomic_files import atomic_write, disk_errors

from .pages.experiment_page import NAME, experiment_page
from .scores import ScoreFile
from .tables import Results, report


def write_outcome(scores: ScoreFile) -> None:
    """Write report.md, report.html and the figures of an experiment beside its scores.

    Args:
        scores: the scores so far.
    """
    from .figures import draw_last, draw_rounds, draw_tasks

    results, out = Results(scores), scores.path.parent
    if len(results.recipes) < 2:
        return  # only the base has scores
    figures: dict[str, Callable[[Path], None]] = {"gains.png": partial(draw_last, results)}
    if any(len(scores.rounds(name)) > 1 for name in results.recipes):
        figures["rounds.png"] = partial(draw_rounds, results)
    for name in _shown(scores):
        if name in results.recipes:
            figures[f"sets-{name}.png"] = partial(draw_tasks, results, name)
    with disk_errors(out):
        for name, draw in figures.items():
            with atomic_write(out / name) as path:
                draw(path)
        with atomic_write(out / "report.md") as path:
            path.write_text(report(scores) + _links(figures), encoding="utf-8")
        with atomic_write(out / NAME) as path:
            path.write_text(experiment_page(results), encoding="utf-8")


def _shown(scores: ScoreFile) -> list[str]:
    """The recipes that get a figure of each data set's gain: those of the comparisons."""
    pairs = scores.facts["experiment"]["comparisons"]
    return list(dict.fromkeys(pair["of"] for pair in pairs))


def _links(figures: Iterable[str]) -> str:
    return "\n## Figures\n\n" + "\n".join(f"![{name}]({name})" for name in figures) + "\n"
