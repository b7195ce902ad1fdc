"""The contributors of a round, and their order."""

import math
from collections.abc import Iterable, Sequence

import numpy as np

from coldfusion_fl.runs.history import training_seconds
from coldfusion_fl.runs.records import RoundRecord


def sample(names: Iterable[str], size: int, seed: int, server_round: int) -> list[str]:
    """Draw contributors without replacement, depending on (seed, round, sorted names) alone.

    Args:
        names: all contributors, in any order.
        size: the number to draw; all of them if there are fewer.
        seed: of the run.
        server_round: the round, from 1.

    Returns:
        Their names, sorted.
    """
    pool = sorted(names)
    drawn = np.random.default_rng([seed, server_round]).permutation(len(pool))[:size]
    return sorted(pool[i] for i in drawn)


def longest_training_first(names: Iterable[str], records: Sequence[RoundRecord]) -> list[str]:
    """Contributors by the duration of their last training: then no simulated worker waits long at the end of a round.

    Args:
        names: the contributors of a round; those without a known duration come first.
        records: of the earlier rounds.
    """
    seconds = training_seconds(records)
    return sorted(names, key=lambda name: -seconds.get(name, math.inf))
