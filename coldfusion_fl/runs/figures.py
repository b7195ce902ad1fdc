"""The figure of a run: scores over the rounds."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")  # a run has no screen

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from coldfusion_fl.errors import count

_SEEN, _UNSEEN = "#1f6f8b", "#d1495b"


def draw_scores(summary: dict[str, Any], path: Path) -> None:
    """Draw the frozen scores over the rounds, and the few-shot scores of the first and last base.

    Args:
        summary: as `report.summarize` makes it.
        path: the PNG to write, whatever its ending.
    """
    few_shot = [row for row in summary["tasks"] if row["few-shot-difference"] is not None]
    figure, panels = plt.subplots(
        1, 2 if few_shot else 1, figsize=(11 if few_shot else 7.5, 4.5), squeeze=False,
        width_ratios=[2, 1] if few_shot else None, layout="constrained",
    )  # fmt: skip
    _draw_rounds(panels[0, 0], summary)
    if few_shot:
        _draw_few_shot(panels[0, 1], few_shot)
    figure.savefig(path, format="png", dpi=120)
    plt.close(figure)


def _draw_rounds(axes: Axes, summary: dict[str, Any]) -> None:
    """Each task as the gain over the first base, thin; the means of the seen and the unseen ones, bold.

    The area around a mean is its 95 % interval, where the nodes reported errors.
    """
    numbers = sorted(summary["rounds"], key=int)
    ends: list[tuple[float, str, str]] = []
    for seen, colour in ((True, _SEEN), (False, _UNSEEN)):
        curves = []
        for row in summary["tasks"]:
            if row["seen"] is not seen or row["frozen-difference"] is None:
                continue
            scores = [summary["rounds"][number].get(row["task"]) for number in numbers]
            values = np.array([np.nan if score is None else score for score in scores], float)
            curves.append(values - values[0])
            axes.plot(_ints(numbers), curves[-1], color=colour, alpha=0.3, linewidth=1)
            ends.append((float(curves[-1][-1]), row["task"], colour))
        if curves:
            role = "seen" if seen else "unseen"
            label = f"mean of {count(len(curves), f'{role} task')}"
            known = [entry for entry in summary["history"] if entry[role] and entry[role]["low"] is not None]
            if len(known) > 1:
                lows, highs = ([entry[role][end] for entry in known] for end in ("low", "high"))
                rounds = [entry["round"] for entry in known]
                axes.fill_between(rounds, lows, highs, color=colour, alpha=0.15, linewidth=0)
                label += ", 95 % interval"
            axes.plot(
                _ints(numbers),
                np.nanmean(curves, axis=0),
                color=colour,
                linewidth=2.5,
                marker="o",
                label=label,
            )
    _label(axes, int(numbers[-1]), ends)
    axes.axhline(0, color="grey", linewidth=0.8)
    axes.set_xticks(_ints(numbers))
    axes.set_xlabel("round")
    axes.set_ylabel("points over the first base")
    axes.set_title("Frozen score (linear probe)")
    axes.legend(frameon=False)


def _label(axes: Axes, last: int, ends: list[tuple[float, str, str]]) -> None:
    """Names at the ends of the curves, pushed apart where they would cover each other."""
    low, high = axes.get_ylim()
    apart, place = 0.035 * (high - low), -np.inf
    for value, name, colour in sorted(ends):
        place = max(value, place + apart)
        axes.text(last + 0.02 * max(1, last), place, name, va="center", fontsize=7, color=colour, parse_math=False)
    axes.set_xlim(right=last * 1.22 + 0.1)


def _draw_few_shot(axes: Axes, rows: list[dict[str, Any]]) -> None:
    positions = np.arange(len(rows))
    for offset, which, colour in ((-0.2, "base", "#b8b8b8"), (0.2, "fused", _UNSEEN)):
        values = [row[f"few-shot-{which}"] for row in rows]
        bars = axes.bar(positions + offset, values, width=0.38, color=colour, label=which)
        axes.bar_label(bars, fmt="%.1f", fontsize=8, label_type="center")
    known = [
        (position + 0.2, row) for position, row in zip(positions, rows, strict=True) if row["few-shot-low"] is not None
    ]
    if known:
        axes.errorbar(
            [position for position, _ in known],
            [row["few-shot-fused"] for _, row in known],
            [(row["few-shot-high"] - row["few-shot-low"]) / 2 for _, row in known],
            fmt="none",
            ecolor="black",
            elinewidth=1,
            capsize=3,
            label="95 % interval of the difference",
        )
    axes.set_xticks(positions, [row["task"] for row in rows], rotation=20, parse_math=False)
    axes.set_ylabel("test score, points")
    axes.set_title("Few-shot score, unseen tasks")
    axes.set_ylim(top=1.35 * max(row[f"few-shot-{which}"] for row in rows for which in ("base", "fused")))
    axes.legend(frameon=False, loc="upper right")


def _ints(numbers: list[Any]) -> list[int]:
    return [int(number) for number in numbers]
