"""TIES-merging: trim small changes, elect a sign for each element, and average the changes of that sign."""

import threading
from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from coldfusion_fl.arrays.blocks import BLOCK, allocate_like, blocks, on_all_blocks, on_all_cores
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict, read_block
from coldfusion_fl.fusion.contribution import Contribution, Operator
from coldfusion_fl.fusion.linear import one_at_a_time

# Elements in a sample that is large enough to bracket the threshold of millions of elements.
_SAMPLE = 1 << 15
# The updates of fewer elements stay in the cache, where a partition of all of them is faster than a sample.
_LARGE = 1 << 20


class Ties(Operator):
    """TIES-merging (Yadav et al. 2023, arXiv 2306.01708, algorithm 1), tensor by tensor.

    Trim: of each update δ_c = θ_c − θ the largest elements are kept. Elect: the sign of each element is that of
    Σ_c w_c δ_c. Merge: μ is the weighted mean of the kept elements with that sign, and θ' = θ + λ μ.

    Use it where contributions change the same weights in opposite directions, as different tasks may do.
    """

    name: ClassVar[str] = "ties"
    density: float = Field(
        0.2, gt=0, le=1, description="Share of each tensor's elements that is kept, the largest by magnitude."
    )
    scale: float = Field(1.0, gt=0, description="λ, the factor of the merged update.")

    def __call__(self, base: Encoder, contributions: Iterable[Contribution]) -> EncoderDict:
        """See `Operator`; `contributions` must be a sequence."""
        # Block by block, as the updates of all contributions at once would take as much memory as the contributions.
        parts = list(one_at_a_time(contributions))
        thresholds = self._thresholds(base, parts)
        fused = allocate_like(base)
        weights = None if all(part.weight == 1 for part in parts) else [part.weight for part in parts]
        # Each thread has its own, because new memory for each block costs more than the sums in it.
        elections: dict[tuple[int, np.dtype], _Election] = {}

        def fill(name: str, block: slice) -> None:
            start = read_block(base, name, block)
            key = threading.get_ident(), start.dtype
            if key not in elections:
                elections[key] = _Election(start.dtype, weights, len(parts))
            updates = (read_block(part.encoder, name, block) for part in parts)
            mean = elections[key].mean_of_elected(start, updates, thresholds[name], self.scale)
            np.add(start, mean, out=fused[name].reshape(-1)[block])

        on_all_blocks(fill, base)
        return fused

    def _thresholds(self, base: Encoder, parts: Sequence[Contribution]) -> dict[str, list[float]]:
        """The thresholds of each array, in the order of the contributions."""
        # Contributions of a small array together, because handing over a job takes as long as such an array.
        jobs = [
            (name, group)
            for name, array in base.items()
            for group in ([parts] if array.size < BLOCK else [[part] for part in parts])
        ]

        def find(job: tuple[str, Sequence[Contribution]]) -> list[float]:
            name, group = job
            start = base[name].reshape(-1)
            return [trim_threshold(part.encoder, name, start, self.density) for part in group]

        thresholds: dict[str, list[float]] = {name: [] for name in base}
        for (name, _), found in zip(jobs, on_all_cores(find, jobs), strict=True):
            thresholds[name] += found
        return thresholds


class _Election:
    """The election and the merge for blocks of elements, with memory that is used again for each block.

    Args:
        dtype: the dtype of the arrays.
        weights: the weights of the contributions; None: all are 1.
        contributions: their number.
    """

    def __init__(self, dtype: np.dtype, weights: Sequence[float] | None, contributions: int) -> None:
        # Products with weights, and sums of weights, are too coarse in float16.
        self._dtype = dtype if weights is None else np.promote_types(dtype, np.float32)
        self._weights = None if weights is None else [self._dtype.type(weight) for weight in weights]
        self._numbers = np.empty((4, BLOCK), self._dtype)
        self._mask = np.empty(BLOCK, np.bool_)
        count = np.uint16 if contributions > np.iinfo(np.uint8).max else np.uint8
        self._counts = np.empty((2, BLOCK), count if weights is None else self._dtype)

    def mean_of_elected(
        self, start: np.ndarray, blocks_of_parts: Iterable[np.ndarray], thresholds: Sequence[float], scale: float
    ) -> np.ndarray:
        """The product λ μ for one block, shape (elements,); it is valid until the next call.

        Args:
            start: the block of the base.
            blocks_of_parts: the same block of each contribution.
            thresholds: of each contribution.
            scale: λ.
        """
        # One contribution after another, with few passes over numbers that stay in the cache.
        size = start.size
        update, magnitude, votes, total = (row[:size] for row in self._numbers)
        above, below = (row[:size] for row in self._counts)
        mask = self._mask[:size]
        for row in (votes, total, above, below):
            row.fill(0)
        for number, (block, threshold) in enumerate(zip(blocks_of_parts, thresholds, strict=True)):
            np.subtract(block, start, out=update)
            np.abs(update, out=magnitude)
            np.multiply(update, np.greater_equal(magnitude, self._dtype.type(threshold), out=mask), out=update)
            self._count(above, np.greater(update, 0, out=mask), number)
            self._count(below, np.less(update, 0, out=mask), number)
            if self._weights:
                update *= self._weights[number]
            votes += update
            total += np.abs(update, out=magnitude)
        weight = self._weight_of_elected(votes, above, below)
        # With A the sum of all magnitudes and V the vote, the elements of the elected sign sum up to ±(A + |V|) / 2.
        total += np.abs(votes, out=magnitude)
        total *= self._dtype.type(scale / 2)
        _copy_sign(votes, total)
        total /= weight
        return total

    def _count(self, counts: np.ndarray, mask: np.ndarray, number: int) -> None:
        """Add the weight of a contribution where the mask is set."""
        np.add(counts, mask * self._weights[number] if self._weights else mask.view(np.uint8), out=counts)

    def _weight_of_elected(self, votes: np.ndarray, above: np.ndarray, below: np.ndarray) -> np.ndarray:
        """The weight of the contributions that have the elected sign; 1 where none has it."""
        if self._weights:
            weight = np.where(votes >= 0, above, below)
            weight[~(weight > 0)] = 1
            return weight
        # The same as `np.where`, which is slow for small integers.
        above -= below
        above *= np.greater_equal(votes, 0, out=self._mask[: votes.size]).view(np.uint8)
        below += above
        return np.maximum(below, 1, out=below).astype(self._dtype)


def _copy_sign(signs: np.ndarray, numbers: np.ndarray) -> None:
    """Give numbers, none of which is negative, the signs of others, in place; `signs` is overwritten."""
    # By their bits, because `np.copysign` is slow.
    bits = np.dtype(f"u{signs.itemsize}")
    signs, numbers = signs.view(bits), numbers.view(bits)
    signs &= bits.type(1 << (8 * bits.itemsize - 1))
    numbers |= signs


def trim_threshold(encoder: Encoder, name: str, base: np.ndarray, density: float) -> float:
    """The magnitude that the largest elements of an update have at least.

    It is the exact order statistic. A sample brackets it, so that only the few elements inside the bracket must be
    partitioned, and neither the array nor the magnitudes of a large one are in memory.

    Args:
        encoder: a contribution.
        name: the name of the array.
        base: the base's array, flattened.
        density: the share of elements to keep; at least one element is kept.
    """
    size = base.size
    keep = max(1, int(density * size))
    if keep >= size:
        return 0.0
    if size > _LARGE:
        low, high = _bracket(encoder, name, base, 1 - keep / size)
        larger, inside, values = 0, 0, [np.empty(0, base.dtype)]
        room, beyond, at_least = np.empty(BLOCK, base.dtype), np.empty(BLOCK, np.bool_), np.empty(BLOCK, np.bool_)
        for block in blocks(size):
            found = _magnitudes(encoder, name, base, block, room[: block.stop - block.start])
            outside = np.greater(found, high, out=beyond[: found.size])
            larger += int(np.count_nonzero(outside))
            bracket = np.not_equal(np.greater_equal(found, low, out=at_least[: found.size]), outside, out=outside)
            inside += int(np.count_nonzero(bracket))
            if low < high:  # else all of them are the same number, such as 0 where nothing was trained
                values.append(found.take(np.flatnonzero(bracket)))
        if 0 < keep - larger <= inside:
            return _largest(np.concatenate(values), keep - larger) if low < high else float(low)
    magnitudes = np.empty(size, base.dtype)
    for block in blocks(size):
        _magnitudes(encoder, name, base, block, magnitudes[block])
    return _largest(magnitudes, keep)


def _bracket(encoder: Encoder, name: str, base: np.ndarray, below: float) -> tuple[np.floating, np.floating]:
    """Two magnitudes of an update; a share `below` of its elements is most probably under a value between them."""
    # At even steps: neighbours are alike, as whole rows of an embedding change together.
    step = base.size // _SAMPLE
    taken = []
    for block in blocks(base.size):
        every = slice(-block.start % step, None, step)
        taken.append(np.abs(read_block(encoder, name, block)[every] - base[block][every]))
    sample = np.concatenate(taken)
    # Six standard deviations of the sample's own order statistic to either side.
    place, slack = sample.size * below, 6 * (sample.size * below * (1 - below)) ** 0.5 + 1
    ends = max(0, int(place - slack)), min(sample.size - 1, int(place + slack))
    sample.partition(ends)
    return sample[ends[0]], sample[ends[1]]


def _magnitudes(encoder: Encoder, name: str, base: np.ndarray, block: slice, out: np.ndarray) -> np.ndarray:
    """The magnitudes of a block of an update."""
    np.subtract(read_block(encoder, name, block), base[block], out=out)
    return np.abs(out, out=out)


def _largest(values: np.ndarray, rank: int) -> float:
    """The value of this rank from above; `values` is reordered."""
    place = values.size - rank
    values.partition(place)
    return float(values[place])
