"""Seeds that depend on what is trained, not on when or where."""

import zlib

import numpy as np


def contributor_seed(seed: int, server_round: int, name: str) -> int:
    """A contributor's seed in a round, from the run's: of its rows, its head and its training."""
    return int(np.random.SeedSequence([seed, server_round, zlib.crc32(name.encode())]).generate_state(1)[0] >> 1)
