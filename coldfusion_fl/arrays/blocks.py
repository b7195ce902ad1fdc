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

# Elements that a thread takes at a time: handing over more often would take as long as the work.
_TURN = 16 * BLOCK

# Elements whose squares are summed up in float32. A longer sum of equal squares is rounded the same way each time; a
# shorter one takes longer. OpenBLAS has no threads for it, which would wait for each other on a busy machine.
_ROW = 256

# Of the sum of a block's squares in float32. Squares that float32 rounds to 0 cannot change a larger sum.
_SMALLEST_SQUARE = 1e-20

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


def on_all_blocks(work: Callable[[str, slice], _R], arrays: Encoder, step: int = BLOCK) -> list[_R]:
    """Apply a function to the name and each block of arrays on all cores; the results are in the order of the blocks.

    Args:
        work: gets a name and a slice of the flattened array.
        arrays: the arrays by name.
        step: the elements of a block.
    """
    jobs = [(name, block) for name, array in arrays.items() for block in blocks(array.size, step)]
    turns: list[list[tuple[str, slice]]] = []
    left = 0
    for job in jobs:
        if left <= 0:
            turns.append([])
            left = _TURN
        turns[-1].append(job)
        left -= job[1].stop - job[1].start
    done = on_all_cores(lambda turn: [work(*job) for job in turn], turns)
    return [result for results in done for result in results]


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
    memory = np.empty(end + _ALIGNMENT, np.uint8)  # numpy aligns only to 16 bytes
    memory = memory[-memory.ctypes.data % _ALIGNMENT :]
    return {
        name: memory[start : start + sizes[name]].view(dtypes[name]).reshape(shapes[name])
        for name, start in starts.items()
    }


def allocate_like(encoder: Encoder) -> EncoderDict:
    """Uninitialised arrays with the names, dtypes and shapes of an encoder, in one allocation."""
    dtypes = {name: array.dtype for name, array in encoder.items()}
    return allocate_together(dtypes, {name: array.shape for name, array in encoder.items()})


def finite(array: np.ndarray) -> bool:
    """Whether all values of an array are finite.

    A finite sum proves it in one fast pass. Finite values can overflow in the sum, so only then each one is checked.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())


def update_norm(base: Encoder, encoder: Encoder) -> float:
    """The L2 norm ‖θ_c − θ‖₂ of a contributor's update over all floating-point arrays, accumulated in float64."""
    return sum(_wide_square(end, start) for end, start in _pairs(base, encoder)) ** 0.5


def quick_update_norm(base: Encoder, encoder: Encoder) -> float:
    """The same as `update_norm` in a third of the time, with a small relative error.

    It is below 1e-7 for random values, and below 1e-6 also where all have the same magnitude, as after a first step of
    Adam. Rows of elements are summed up in the arrays' own precision, or in float32 for float16, and the sums of rows
    in float64. The norm is finite only if all values are.
    """
    return sum(_square(end, start) for end, start in _pairs(base, encoder)) ** 0.5


def quick_norm(encoder: Encoder) -> float:
    """The L2 norm ‖θ‖₂ over all floating-point arrays, as exact as `quick_update_norm`."""
    zeros = {name: np.broadcast_to(array.dtype.type(0), array.size) for name, array in encoder.items()}
    return quick_update_norm(zeros, encoder)


def _pairs(base: Encoder, encoder: Encoder) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The blocks of all floating-point arrays of an encoder, each with the base's block."""
    for name, array in base.items():
        if array.dtype.kind == "f":
            start, end = array.reshape(-1), encoder[name].reshape(-1)
            for block in blocks(start.size):
                yield end[block], start[block]


def _square(end: np.ndarray, start: np.ndarray) -> float:
    """The sum of the squares of the difference of two blocks."""
    with np.errstate(over="ignore", invalid="ignore"):
        update = np.subtract(end, start, dtype=np.promote_types(end.dtype, np.float32))
        whole = update.size - update.size % _ROW
        rows, rest = update[:whole].reshape(-1, _ROW), update[whole:]
        total = float(np.vecdot(rows, rows).sum(dtype=np.float64)) + float(np.vecdot(rest, rest))
        # In float64 only where a square may be outside of the range of float32.
        return total if _SMALLEST_SQUARE < total < math.inf or not update.any() else _wide_square(end, start)


def _wide_square(end: np.ndarray, start: np.ndarray) -> float:
    """The sum of the squares of the difference of two blocks, in float64."""
    # Two conversions and a difference in place are faster than a difference that converts.
    update = end.astype(np.float64)
    update -= start.astype(np.float64)
    # Not `update @ update`: on a busy machine its threads wait for each other, 40 times as long.
    return float(np.einsum("i,i->", update, update))
