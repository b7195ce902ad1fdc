"""Means over data sets and seeds, with bootstrap intervals."""

import functools
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
        mean: the mean over tasks of each task's mean over seeds.
        low: the lower end of the 95 % interval; NaN if there is only one score.
        high: the upper end of the interval.
        tasks: the number of tasks.
        seeds: the number of seeds.
        scores: the number of scores; fewer than tasks × seeds if not every task has every seed.
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

    Tasks and seeds are drawn with replacement, independently of each other (the pigeonhole bootstrap: Owen 2007, The
    Annals of Applied Statistics 1(2)). The mean of a draw is the mean over the drawn tasks of their means over the
    drawn seeds. The ends of the interval are the 2.5 % and 97.5 % quantiles of 10,000 draws with a fixed random seed.

    Args:
        cells: points by (seed, task); not every task needs every seed.

    Returns:
        The estimate; None if there are no scores.
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
    seed_counts, task_counts = _draws(*points.shape)
    weights = seed_counts @ there
    with np.errstate(invalid="ignore"):
        by_task = np.where(weights > 0, (seed_counts @ points) / weights, 0.0)
    task_counts = task_counts * (weights > 0)  # leaves out a task none of whose seeds was drawn
    counted = task_counts.sum(axis=1)
    means = (task_counts * by_task).sum(axis=1)[counted > 0] / counted[counted > 0]
    return np.percentile(means, [(100 - _LEVEL) / 2, (100 + _LEVEL) / 2])


@functools.lru_cache(maxsize=8)
def _draws(seeds: int, tasks: int) -> tuple[np.ndarray, np.ndarray]:
    """How often each seed and each task is drawn: arrays of shape (draws, seeds) and (draws, tasks).

    A report has hundreds of intervals over the same numbers of seeds and tasks, so the draws are made once.
    """
    draw = np.random.default_rng(0)
    seed_counts = draw.multinomial(seeds, np.full(seeds, 1 / seeds), size=_DRAWS).astype(float)
    task_counts = draw.multinomial(tasks, np.full(tasks, 1 / tasks), size=_DRAWS).astype(float)
    return seed_counts, task_counts


def differences(of: Cells, to: Cells) -> dict[tuple[int, str], float]:
    """The first scores minus the second ones, for seeds and tasks that have both."""
    return {place: value - to[place] for place, value in of.items() if place in to}
