"""The trimmed mean of each element over the contributions, by a sorting network.

A network sorts rows by minima and maxima of two whole rows at a time, without a branch for each element. For eight rows
it takes 19 such pairs, and less where only the middle rows are wanted.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

# With more rows, numpy's sort is faster: it takes time n log n, the network n (log n)².
MAX_ROWS = 64


class Comparator(NamedTuple):
    """Puts the minimum of two rows into the first of them, and the maximum into the second, where these are wanted."""

    low: int
    high: int
    wants_low: bool
    wants_high: bool


def trimmed_mean(rows: Sequence[np.ndarray], removed: int) -> np.ndarray:
    """The mean of each element's values, without the smallest and the largest ones.

    Args:
        rows: one for each contribution, shape (elements,) each, of one floating-point dtype and finite. They are
            overwritten.
        removed: the number of values that are left out at each end, less than half of all.

    Returns:
        The means, shape (elements,), in the same dtype.
    """
    stop = len(rows) - removed
    if len(rows) > MAX_ROWS:
        columns = np.ascontiguousarray(np.stack(rows).T)  # numpy has a fast sort for values that are side by side
        columns.sort(axis=1)
        inner = list(columns.T[removed:stop])
    else:
        inner = _sort(list(rows), removed, stop)[removed:stop]
    total = inner[0].astype(np.promote_types(inner[0].dtype, np.float32), copy=False)
    for row in inner[1:]:
        total += row
    if len(inner) > 1:
        total /= len(inner)
    return total.astype(inner[0].dtype, copy=False)


def _sort(rows: list[np.ndarray], first: int, stop: int) -> list[np.ndarray]:
    spare = np.empty_like(rows[0])
    for low, high, wants_low, wants_high in sorting_network(len(rows), first, stop):
        if wants_low and wants_high:
            np.minimum(rows[low], rows[high], out=spare)
            np.maximum(rows[low], rows[high], out=rows[high])
            rows[low], spare = spare, rows[low]
        elif wants_low:
            np.minimum(rows[low], rows[high], out=rows[low])
        else:
            np.maximum(rows[low], rows[high], out=rows[high])
    return rows


@functools.lru_cache
def sorting_network(count: int, first: int, stop: int) -> list[Comparator]:
    """The comparators that sort some rows, without those whose result no place from `first` to `stop` depends on."""
    wanted = set(range(first, stop))
    network = []
    for low, high in reversed(list(_pairs(count))):
        if low in wanted or high in wanted:
            network.append(Comparator(low, high, low in wanted, high in wanted))
            wanted |= {low, high}
    return network[::-1]


def _pairs(count: int) -> Iterator[tuple[int, int]]:
    """Batcher's odd-even merge sort (Knuth, The Art of Computer Programming 3, algorithm 5.2.2M), for any count."""
    size = 1 << max(count - 1, 0).bit_length()
    sorted_size = 1
    while sorted_size < size:
        distance = sorted_size
        while distance:
            for start in range(distance % sorted_size, count - distance, 2 * distance):
                for low in range(start, min(start + distance, count - distance)):
                    if low // (2 * sorted_size) == (low + distance) // (2 * sorted_size):
                        yield low, low + distance
            distance //= 2
        sorted_size *= 2
