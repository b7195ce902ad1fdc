"""Robust operators: a minority of bad contributions cannot move the result far."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from coldfusion_fl.arrays.blocks import allocate_like, on_all_blocks
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict, read_block
from coldfusion_fl.fusion.contribution import Contribution, Operator
from coldfusion_fl.fusion.gram import gram
from coldfusion_fl.fusion.linear import one_at_a_time, weighted_mean
from coldfusion_fl.fusion.order_statistics import trimmed_mean

# Elements of all encoders that are sorted at a time: a block of 1 MiB, which fits into a core's cache.
_BLOCK = 1 << 18


class Median(Operator):
    """The coordinate-wise median: θ'_i = median_c θ_c,i (Yin et al. 2018, arXiv 1803.01498, algorithm 1, option I).

    Use it where fewer than half of the contributors may send arbitrary values: no element leaves the range of the
    others' values.
    """

    name: ClassVar[str] = "median"
    uses_weights: ClassVar[bool] = False

    def __call__(self, base: Encoder, contributions: Iterable[Contribution]) -> EncoderDict:
        """See `Operator`; `contributions` must be a sequence."""
        parts = [part.encoder for part in one_at_a_time(contributions)]
        return _trimmed_means(base, parts, removed=(len(parts) - 1) // 2)


class TrimmedMean(Operator):
    """The coordinate-wise trimmed mean (Yin et al. 2018, arXiv 1803.01498, algorithm 1, option II).

    For each element the int(cut · |C|) smallest and the same number of largest values are removed; θ'_i is the mean of
    the rest.

    Use it for the same purpose where the share of bad contributors is at most `cut`: it uses more of the values than
    the median does.
    """

    name: ClassVar[str] = "trimmed-mean"
    uses_weights: ClassVar[bool] = False
    cut: float = Field(0.2, ge=0, lt=0.5, description="Share of the values that is removed at each end.")

    def __call__(self, base: Encoder, contributions: Iterable[Contribution]) -> EncoderDict:
        """See `Operator`; `contributions` must be a sequence."""
        parts = [part.encoder for part in one_at_a_time(contributions)]
        return _trimmed_means(base, parts, removed=int(self.cut * len(parts)))


class GeometricMedian(Operator):
    """The geometric median of encoders: θ' = argmin_z Σ_c w_c ‖z − θ_c‖₂ (Pillutla et al. 2022, arXiv 1912.13445).

    It is found by the smoothed Weiszfeld iteration: β_c ∝ w_c / max(ν, ‖z − θ_c‖), z = Σ_c β_c θ_c. As z is always a
    mean of the contributions, the distances follow from their inner products. The start, ν and the stopping criterion
    are relative to the median distance between contributions, because a minority cannot enlarge that. ν is a millionth
    of it.

    Use it where a minority may send encoders that are far away as a whole. It treats an encoder as one point, not
    each element on its own.
    """

    name: ClassVar[str] = "geometric-median"
    iterations: int = Field(100, ge=1, description="Maximum number of iterations.")
    tolerance: float = Field(
        1e-6, gt=0, description="Stop when the result moves by less than this multiple of the median distance."
    )

    def __call__(self, base: Encoder, contributions: Iterable[Contribution]) -> EncoderDict:
        """See `Operator`; `contributions` must be a sequence."""
        return self.fuse_with_shares(base, list(one_at_a_time(contributions)))[0]

    def fuse_with_shares(
        self, base: Encoder, contributions: Sequence[Contribution]
    ) -> tuple[EncoderDict, Sequence[float]]:
        """See `Operator`; the shares are the coefficients β."""
        parts = list(one_at_a_time(contributions))
        inner = sum(gram([part.encoder for part in parts], name, base[name]) for name in base)
        found = self._coefficients(np.asarray(inner), np.array([part.weight for part in parts]))
        shares = [float(share) for share in found]
        return weighted_mean([(part.encoder, share) for part, share in zip(parts, shares, strict=True)]), shares

    def _coefficients(self, inner: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The coefficients β, shape (n,), by Weiszfeld's iteration on inner products, shape (n, n)."""
        squares = np.diag(inner)
        between = np.sqrt(np.maximum(squares[:, None] + squares - 2 * inner, 0))
        usual = np.median(between, axis=1)
        unit = float(np.median(usual))
        smallest = 1e-6 * unit + np.finfo(np.float64).tiny
        # Not from the mean: a contribution a million times as far away would take a million steps to lose its weight.
        shares = weights / np.maximum(usual, smallest)
        shares /= shares.sum()
        for _ in range(self.iterations):
            squared = squares - 2 * inner @ shares + shares @ inner @ shares
            new = weights / np.maximum(np.sqrt(np.maximum(squared, 0)), smallest)
            new /= new.sum()
            move, shares = new - shares, new
            if move @ inner @ move <= (self.tolerance * unit) ** 2:
                break
        return shares


def _trimmed_means(base: Encoder, encoders: Sequence[Encoder], removed: int) -> EncoderDict:
    """The mean of each element over the encoders, without a number of values at each end.

    On all cores, a block of elements of all encoders at a time, so that only blocks are in memory.
    """
    fused = allocate_like(base)

    def fill(name: str, block: slice) -> None:
        rows = [np.array(read_block(encoder, name, block), base[name].dtype) for encoder in encoders]
        fused[name].reshape(-1)[block] = trimmed_mean(rows, removed)

    on_all_blocks(fill, base, max(_BLOCK // len(encoders), 1))
    return fused
