"""Seeds that depend on the run, the round and the contributor, and not on the time or the machine."""

import zlib

import numpy as np


def contributor_seed(seed: int, server_round: int, name: str) -> int:
    """The seed of a contributor's rows, head and training in a round, derived from the run's seed; 31 bits."""
    return int(np.random.SeedSequence([seed, server_round, zlib.crc32(name.encode())]).generate_state(1)[0] >> 1)
