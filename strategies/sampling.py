"""Who contributes in a round."""

from collections.abc import Iterable

import numpy as np


def sample(names: Iterable[str], size: int, seed: int, server_round: int) -> list[str]:
    """Draw contributors without replacement, by (seed, round, sorted names) alone.

    Args:
        names: all contributors, in any order.
        size: how many; all of them where there are fewer.
        seed: of the run.
        server_round: the round, from 1.

    Returns:
        Their names, sorted.
    """
    pool = sorted(names)
    drawn = np.random.default_rng([seed, server_round]).permutation(len(pool))[:size]
    return sorted(pool[i] for i in drawn)
