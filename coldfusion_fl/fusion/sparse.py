"""TIES-merging: trim small changes, elect a sign for each element, and average the changes of that sign."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from coldfusion_fl.arrays.blocks import blocks, on_all_cores
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict, read_block
from coldfusion_fl.fusion.contribution import Contribution, Operator
from coldfusion_fl.fusion.linear import one_at_a_time

# Elements in a sample that is large enough to bracket the threshold of millions of elements.
_SAMPLE = 1 << 15


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
        parts = list(one_at_a_time(contributions))
        return {name: self._fuse(array, name, parts) for name, array in base.items()}

    def _fuse(self, base: np.ndarray, name: str, parts: Sequence[Contribution]) -> np.ndarray:
        # A threshold needs the whole array of one contribution. All else goes block by block, as the updates of all
        # contributions at once would take as much memory as the contributions.
        start = base.reshape(-1)
        found = on_all_cores(lambda part: trim_threshold(part.encoder[name].reshape(-1), start, self.density), parts)
        thresholds = np.array([[threshold] for threshold in found], base.dtype)
        uniform = all(part.weight == 1 for part in parts)
        weights = None if uniform else np.array([[part.weight] for part in parts], base.dtype)
        fused = np.empty_like(start)

        def fill(block: slice) -> None:
            updates = np.empty((len(parts), block.stop - block.start), base.dtype)
            for update, part in zip(updates, parts, strict=True):
                np.subtract(read_block(part.encoder, name, block), start[block], out=update)
            np.add(start[block], self._mean_of_elected(updates, thresholds, weights), out=fused[block])

        on_all_cores(fill, blocks(start.size))
        return fused.reshape(base.shape)

    def _mean_of_elected(self, updates: np.ndarray, thresholds: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
        """The product λ μ for one block. `updates`, shape (contributions, elements), is overwritten."""
        magnitudes = np.abs(updates)
        updates *= magnitudes >= thresholds
        count = np.uint16 if len(updates) > np.iinfo(np.uint8).max else np.uint8
        if weights is None:
            above = np.add.reduce((updates > 0).view(np.uint8), axis=0, dtype=count)
            kept = np.add.reduce((updates != 0).view(np.uint8), axis=0, dtype=count)
        else:
            above = (weights * (updates > 0)).sum(axis=0)
            kept = (weights * (updates != 0)).sum(axis=0)
            updates *= weights
        votes = updates.sum(axis=0)
        weight = np.where(votes >= 0, above, kept - above).astype(updates.dtype)
        # With A the sum of all magnitudes and V the vote, the elements of the elected sign sum up to ±(A + |V|) / 2.
        mean: np.ndarray = np.abs(updates, out=magnitudes).sum(axis=0)
        mean += np.abs(votes)
        mean *= np.copysign(updates.dtype.type(self.scale / 2), votes)
        return np.divide(mean, weight, out=mean, where=weight > 0)


def trim_threshold(array: np.ndarray, base: np.ndarray, density: float) -> float:
    """The magnitude that the largest elements of an update have at least.

    It is the exact order statistic. A sample brackets it, so that only the few elements inside the bracket must be
    partitioned, and the magnitudes are never all in memory.

    Args:
        array: a contribution's array, one-dimensional.
        base: the base's array, of the same size and dtype.
        density: the share of elements to keep; at least one element is kept.
    """
    size = array.size
    keep = max(1, int(density * size))
    if keep >= size:
        return 0.0
    if size > 8 * _SAMPLE:
        stride = size // _SAMPLE
        sample = np.sort(np.abs(array[::stride] - base[::stride]))
        # Six standard deviations of the sample's own order statistic to either side.
        below = 1 - keep / size
        place, slack = len(sample) * below, 6 * (len(sample) * below * (1 - below)) ** 0.5 + 1
        low, high = sample[max(0, int(place - slack))], sample[min(len(sample) - 1, int(place + slack))]
        larger, inside = 0, []
        for block in blocks(size):
            magnitudes = np.abs(array[block] - base[block])
            beyond = magnitudes > high
            larger += int(np.count_nonzero(beyond))
            inside.append(magnitudes[np.flatnonzero((magnitudes >= low) ^ beyond)])
        bracketed = np.concatenate(inside)
        if 0 < keep - larger <= bracketed.size:
            return _largest(bracketed, keep - larger)
    return _largest(np.abs(array - base), keep)


def _largest(values: np.ndarray, rank: int) -> float:
    place = values.size - rank
    return float(np.partition(values, place)[place])
