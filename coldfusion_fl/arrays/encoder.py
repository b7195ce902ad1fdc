"""The type of an encoder: numpy arrays by name."""

from collections.abc import Mapping

import numpy as np

# Functions take any mapping, so that an implementation can read each array from disk on access. They return a dict.
Encoder = Mapping[str, np.ndarray]
EncoderDict = dict[str, np.ndarray]


def size_in_bytes(encoder: Encoder) -> int:
    """The size of all arrays, in bytes."""
    return sum(array.nbytes for array in encoder.values())
