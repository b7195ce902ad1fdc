"""Work on large arrays in pieces: on all cores, and without temporaries of an array's size."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict

# Elements: small enough for a core's cache, large enough that threads rarely wait for the interpreter's lock.
BLOCK = 1 << 16

# Bytes: where an array may begin, so that the processor reads whole cache lines.
_LINE = 64

_T = TypeVar("_T")
_R = TypeVar("_R")


def blocks(size: int, step: int = BLOCK) -> Iterator[slice]:
    """The slices that cut so many elements into blocks."""
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def on_all_cores(work: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """The results of some work on each item, in their order. Threads do: numpy lets go of the interpreter's lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, items))


def side_by_side(dtypes: Mapping[str, np.dtype], shapes: Mapping[str, tuple[int, ...]]) -> EncoderDict:
    """Arrays by name, of any content, in one piece of memory.

    A system gives one large piece in huge pages; a hundred small ones cost as much time as the sum over them.
    """
    sizes = {name: math.prod(shapes[name]) * dtype.itemsize for name, dtype in dtypes.items()}
    starts, end = {}, 0
    for name, size in sizes.items():
        starts[name] = end
        end += -(-size // _LINE) * _LINE
    room = np.empty(end, np.uint8)
    return {
        name: room[start : start + sizes[name]].view(dtypes[name]).reshape(shapes[name])
        for name, start in starts.items()
    }


def finite(array: np.ndarray) -> bool:
    """Whether all of an array's numbers are finite: their sum tells at once, unless it overflows."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())


def update_norm(base: Encoder, encoder: Encoder) -> float:
    """‖θ_c − θ‖₂ over all floating-point arrays, added up in float64."""
    total = 0.0
    for name, array in base.items():
        if array.dtype.kind == "f":
            start, end = array.reshape(-1), encoder[name].reshape(-1)
            for block in blocks(start.size):
                update = np.subtract(end[block], start[block], dtype=np.float64)
                total += float(update @ update)
    return total**0.5
