"""Work on large arrays in pieces: on all cores, and without temporaries of an array's size."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

# Elements: small enough for a core's cache, large enough that threads rarely wait for the interpreter's lock.
BLOCK = 1 << 16

_T = TypeVar("_T")
_R = TypeVar("_R")


def blocks(size: int) -> Iterator[slice]:
    """The slices that cut so many elements into blocks."""
    return (slice(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK))


def on_all_cores(work: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """The results of some work on each item, in their order. Threads do: numpy lets go of the interpreter's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, items))
