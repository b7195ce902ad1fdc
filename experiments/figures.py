"""An experiment's figures."""

from pathlib import Path

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from .statistics import estimate
from .tables import Results, by_task, counted

_COLOURS = [plt.get_cmap("tab10")(number) for number in range(10)]
_HEIGHT = 0.32


def draw_last(results: Results, path: Path) -> None:
    """Each recipe's mean gain over the base with its interval, one panel for each kind of score."""
    columns, names = results.columns, results.recipes[1:]
    figure, panels = plt.subplots(
        1, len(columns), figsize=(1.5 + 2.5 * len(columns), 1.3 + _HEIGHT * len(names)), sharey=True, squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes, column in zip(panels[0], columns, strict=True):
        for place, name in enumerate(names):
            if found := results.gain(name, *column):
                whiskers = np.nan_to_num([[found.mean - found.low], [found.high - found.mean]]).clip(min=0)
                axes.errorbar(found.mean, place, xerr=whiskers, fmt="o", color=_COLOURS[place % 10], capsize=3)
        axes.axvline(0, color="grey", linewidth=0.8)
        axes.set_title(", ".join(column), fontsize=10)
        axes.set_xlabel("points over the base", fontsize=9)
    panels[0, 0].set_yticks(range(len(names)), names)
    panels[0, 0].invert_yaxis()
    _save(figure, path)


def draw_rounds(results: Results, path: Path) -> None:
    """Mean gains over the rounds, one panel for each kind of score; recipes that are made at once are dotted lines.

    The legend says how many seeds each has, for a line is of those alone that have scores after each of its rounds.
    """
    columns = results.columns
    figure, panels = plt.subplots(
        1, len(columns), figsize=(1 + 3 * len(columns), 3.4), squeeze=False, layout="constrained"
    )
    for axes, column in zip(panels[0], columns, strict=True):
        _draw_gains(axes, results, *column)
    panels[0, 0].set_ylabel("points over the base")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)), frameon=False)
    _save(figure, path)


def _draw_gains(axes: Axes, results: Results, mode: str, role: str) -> None:
    for place, name in enumerate(results.recipes[1:]):
        colour = _COLOURS[place % 10]
        course = results.course(name, mode, role)
        found = [one for cells in course.values() if (one := estimate(cells))]
        if not found:
            continue  # no seed has scores after each of its rounds
        numbers, means = list(course), [one.mean for one in found]
        label = f"{name} ({counted(found[0].seeds, 'seed')})"
        if numbers == [0]:
            axes.axhline(means[0], color=colour, linestyle=":", label=label)
        elif len(numbers) > 1:
            axes.plot([0, *numbers], [0.0, *means], color=colour, marker="o", markersize=4, label=label)
            axes.fill_between(
                [0, *numbers],
                [0.0, *(one.low for one in found)],
                [0.0, *(one.high for one in found)],
                color=colour,
                alpha=0.12,
                linewidth=0,
            )
        else:
            axes.plot(numbers, means, color=colour, marker="s", linestyle="", label=label)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_title(f"{mode}, {role}", fontsize=10)
    axes.set_xlabel("round")


def draw_tasks(results: Results, recipe: str, path: Path) -> None:
    """Each data set's gain with a recipe's last base, one panel for each kind of score, the largest gains on top."""
    columns = [column for column in results.columns if results.last(recipe, *column) is not None]
    found = [by_task(results.gains(recipe, results.last(recipe, *column) or 0, *column)) for column in columns]
    figure, panels = plt.subplots(
        1, len(columns), figsize=(1 + 3 * len(columns), 1 + 0.2 * max(map(len, found))), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    for axes, column, gains in zip(panels[0], columns, found, strict=True):
        names = sorted(gains, key=gains.__getitem__)
        values = [gains[name] for name in names]
        axes.barh(names, values, color=["#1f6f8b" if value > 0 else "#d1495b" for value in values])
        axes.axvline(0, color="grey", linewidth=0.8)
        axes.tick_params(axis="y", labelsize=7)
        axes.set_title(", ".join(column), fontsize=10)
    figure.suptitle(f"{recipe}: points over the base, by data set", fontsize=11)
    _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> None:
    # Without the date and version in it, the same scores make the same file.
    figure.savefig(path, format="png", dpi=110, metadata={"Software": None})
    plt.close(figure)
