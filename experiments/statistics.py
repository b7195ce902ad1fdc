"""Means over data sets and seeds, with bootstrap intervals."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

# By (seed, task).
Cells = Mapping[tuple[int, str], float]
_DRAWS = 10_000
_LEVEL = 95.0


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval.

    Attributes:
        mean: over the tasks of each task's mean over seeds.
        low: lower end of the 95 % interval; NaN where there is only one task and seed.
        high: its upper end.
        tasks: how many.
        seeds: how many.
        scores: how many; fewer than tasks × seeds where not every task has every seed.
        positive: the share of tasks whose mean over seeds is above 0.
    """

    mean: float
    low: float
    high: float
    tasks: int
    seeds: int
    scores: int
    positive: float


def estimate(cells: Cells) -> Estimate | None:
    """The mean of scores, or of differences of scores, with a bootstrap interval over tasks and seeds.

    Tasks and seeds are drawn with replacement, each on its own (the pigeonhole bootstrap: Owen 2007, The Annals of
    Applied Statistics 1(2)); a draw's mean is taken as that of the scores, over the drawn tasks of their means over the
    drawn seeds. The interval has the 2.5 % and 97.5 % quantiles of 10,000 draws of a fixed seed.

    Args:
        cells: points by (seed, task); not every task needs every seed. None where there are none.
    """
    if not cells:
        return None
    seeds = sorted({seed for seed, _ in cells})
    tasks = sorted({task for _, task in cells})
    points, there = np.zeros((len(seeds), len(tasks))), np.zeros((len(seeds), len(tasks)))
    for (seed, task), value in cells.items():
        place = seeds.index(seed), tasks.index(task)
        points[place], there[place] = value, 1.0
    by_task = points.sum(axis=0) / there.sum(axis=0)
    low = high = float("nan")
    if len(cells) > 1:
        low, high = (float(end) for end in _interval(points, there))
    return Estimate(float(by_task.mean()), low, high, len(tasks), len(seeds), len(cells), float((by_task > 0).mean()))


def _interval(points: np.ndarray, there: np.ndarray) -> np.ndarray:
    draw = np.random.default_rng(0)
    seeds, tasks = points.shape
    seed_counts = draw.multinomial(seeds, np.full(seeds, 1 / seeds), size=_DRAWS).astype(float)
    task_counts = draw.multinomial(tasks, np.full(tasks, 1 / tasks), size=_DRAWS).astype(float)
    weights = seed_counts @ there
    with np.errstate(invalid="ignore"):
        by_task = np.where(weights > 0, (seed_counts @ points) / weights, 0.0)
    task_counts *= weights > 0  # a task none of whose seeds was drawn
    counted = task_counts.sum(axis=1)
    means = (task_counts * by_task).sum(axis=1)[counted > 0] / counted[counted > 0]
    return np.percentile(means, [(100 - _LEVEL) / 2, (100 + _LEVEL) / 2])


def differences(of: Cells, to: Cells) -> dict[tuple[int, str], float]:
    """How much higher the first scores are, of the seeds and tasks that have both."""
    return {place: value - to[place] for place, value in of.items() if place in to}
