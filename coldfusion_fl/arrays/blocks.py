"""Operations on large arrays in blocks: on all cores, and without temporary arrays of the full size."""

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict

# Elements of a block. It fits into a core's cache, and threads rarely wait for the interpreter lock (GIL).
BLOCK = 1 << 16

# Bytes. Each array begins at the start of a cache line.
_ALIGNMENT = 64

_T = TypeVar("_T")
_R = TypeVar("_R")


def blocks(size: int, step: int = BLOCK) -> Iterator[slice]:
    """The slices that cut `size` elements into blocks of at most `step` elements."""
    return (slice(start, min(start + step, size)) for start in range(0, size, step))


def on_all_cores(work: Callable[[_T], _R], items: Iterable[_T]) -> list[_R]:
    """Apply a function to each item on all cores; the results are in the order of the items.

    Threads are enough, because numpy releases the interpreter lock.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(work, items))


def allocate_together(dtypes: Mapping[str, np.dtype], shapes: Mapping[str, tuple[int, ...]]) -> EncoderDict:
    """Uninitialised arrays by name that share one allocation.

    The operating system serves one large allocation with huge pages. With a hundred small allocations, the page
    faults take as much time as a sum over the arrays.
    """
    sizes = {name: math.prod(shapes[name]) * dtype.itemsize for name, dtype in dtypes.items()}
    starts, end = {}, 0
    for name, size in sizes.items():
        starts[name] = end
        end += -(-size // _ALIGNMENT) * _ALIGNMENT  # rounded up, so that the next array is aligned too
    memory = np.empty(end, np.uint8)
    return {
        name: memory[start : start + sizes[name]].view(dtypes[name]).reshape(shapes[name])
        for name, start in starts.items()
    }


def finite(array: np.ndarray) -> bool:
    """Whether all values of an array are finite.

    A finite sum proves it in one fast pass. Finite values can overflow in the sum, so only then each one is checked.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())


def norm(encoder: Encoder) -> float:
    """The L2 norm ‖θ‖₂ over all floating-point arrays, accumulated in float64."""
    total = 0.0
    for array in encoder.values():
        flat = array.reshape(-1)
        for block in blocks(flat.size if array.dtype.kind == "f" else 0):
            part = flat[block].astype(np.float64)
            total += float(np.einsum("i,i->", part, part))
    return total**0.5


def update_norm(base: Encoder, encoder: Encoder) -> float:
    """The L2 norm ‖θ_c − θ‖₂ of a contributor's update over all floating-point arrays, accumulated in float64."""
    total = 0.0
    for name, array in base.items():
        if array.dtype.kind == "f":
            start, end = array.reshape(-1), encoder[name].reshape(-1)
            for block in blocks(start.size):
                update = np.subtract(end[block], start[block], dtype=np.float64)
                # Not `update @ update`: on a busy machine its threads wait for each other, 40 times as long.
                total += float(np.einsum("i,i->", update, update))
    return total**0.5
