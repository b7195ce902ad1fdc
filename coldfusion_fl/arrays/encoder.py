"""The type of an encoder: numpy arrays by name."""

from collections.abc import Mapping

import numpy as np

# Functions take any mapping, so that an implementation can read each array from disk on access. They return a dict.
Encoder = Mapping[str, np.ndarray]
EncoderDict = dict[str, np.ndarray]


def size_in_bytes(encoder: Encoder) -> int:
    """The size of all arrays, in bytes."""
    return sum(array.nbytes for array in encoder.values())


class BlockReader(Encoder):
    """An encoder that can read a block of an array without the rest of it."""

    def part(self, name: str, block: slice) -> np.ndarray:
        """The elements `block.start` to `block.stop` of the flattened array, shape (stop - start,)."""
        raise NotImplementedError

    def layout(self, name: str) -> tuple[np.dtype, tuple[int, ...]]:
        """The dtype and the shape of an array."""
        raise NotImplementedError


def read_block(encoder: Encoder, name: str, block: slice) -> np.ndarray:
    """A block of a flattened array, shape (stop - start,): from disk it is read alone, in memory it is a view.

    Of an array in memory that is not contiguous it is a copy.
    """
    if isinstance(encoder, BlockReader):
        return encoder.part(name, block)
    array = encoder[name]
    return array.reshape(-1)[block] if array.flags.c_contiguous else array.flat[block]


def read_layout(encoder: Encoder, name: str) -> tuple[np.dtype, tuple[int, ...]]:
    """The dtype and the shape of an array, which is not read from disk for it."""
    if isinstance(encoder, BlockReader):
        return encoder.layout(name)
    array = encoder[name]
    return array.dtype, array.shape
