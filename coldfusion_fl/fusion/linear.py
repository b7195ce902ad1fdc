"""Operators that are sums. They read blocks of the contributions, so memory does not grow with their number."""

import functools
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar, TypeVar

import numpy as np
from pydantic import Field

from coldfusion_fl.arrays.blocks import allocate_together, on_all_blocks
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict, read_block, read_layout
from coldfusion_fl.errors import FusionError
from coldfusion_fl.fusion.contribution import Contribution, Operator, limit_to_median, relative_weights

# No data set has more rows, and much larger weights would overflow float32.
_MAX_WEIGHT = 1e12
# The number of values that the random number of an element of DARE's masks can have.
_MASK_VALUES = 1 << 16

_T = TypeVar("_T")


class Mean(Operator):
    """The uniform mean of the paper: θ' = (1/|C|) Σ_c θ_c (Don-Yehiya et al. 2023, section 3).

    A contribution whose influence is capped counts with its `weight` instead of 1. The sum is accumulated in the
    arrays' own precision, or in float32 for float16. Over n contributions the relative error is at most n units in the
    last place.

    Use it first: it is the paper's operator, and the fastest.
    """

    name: ClassVar[str] = "mean"
    is_average: ClassVar[bool] = True

    def __call__(self, base: Encoder, contributions: Iterable[Contribution]) -> EncoderDict:
        """See `Operator`."""
        parts = ((part.encoder, self.weight_of(part)) for part in contributions)
        return weighted_mean(list(parts) if isinstance(contributions, Sequence) else parts)

    def shares(self, contributions: Sequence[Contribution]) -> Sequence[float]:
        """The weights, divided by their sum."""
        return relative_weights(self, contributions)


class WeightedMean(Mean):
    """The weighted mean of FedAvg: θ' = Σ_c w_c θ_c / Σ_c w_c (McMahan et al. 2017, arXiv 1602.05629, algorithm 1).

    Use it where contributors with more rows should count more. They report their numbers themselves, so a false number
    gains weight. In a round no number counts for more than five times the lower median of the round.
    """

    name: ClassVar[str] = "weighted-mean"
    by: str = Field("num-examples", description="Number reported by contributors that is the weight.")

    @property
    def reported_weight(self) -> str:
        """See `Operator`."""
        return self.by

    def weight_of(self, contribution: Contribution) -> float:
        """The relative weight of a contribution."""
        return contribution.metrics[self.by] * contribution.weight

    def limit_weights(self, contributions: Sequence[Contribution]) -> list[Contribution]:
        """The contributions, where no reported number is above `MAX_TO_MEDIAN` times the lower median."""
        limited = limit_to_median([contribution.metrics[self.by] for contribution in contributions])
        return [
            replace(contribution, metrics={**contribution.metrics, self.by: number})
            for contribution, number in zip(contributions, limited, strict=True)
        ]

    def rejection_reason(self, contribution: Contribution) -> str | None:
        """The contribution must report a number that can be a weight."""
        reported = contribution.metrics.get(self.by)
        if reported is None:
            return f"it does not report '{self.by}', which is the weight of contributions"
        return (
            None if 0 < reported <= _MAX_WEIGHT else f"it reports {self.by} = {reported:g}, which is not a valid weight"
        )


class TaskArithmetic(Operator):
    """Task arithmetic: θ' = θ + λ Σ_c w_c (θ_c − θ) (Ilharco et al. 2023, arXiv 2212.04089, section 2).

    The sum grows with the number of contributions; with λ = 1/|C| it is the mean.

    Use it to take a longer or a shorter step than the mean. Choose λ by the score of a validation task.
    """

    name: ClassVar[str] = "task-arithmetic"
    scale: float = Field(0.3, gt=0, description="λ, the factor of the sum of the updates.")

    def __call__(self, base: Encoder, contributions: Iterable[Contribution]) -> EncoderDict:
        """See `Operator`."""
        total, _ = sum_of_updates(base, contributions)
        return moved_by(base, total, self.scale)

    def shares(self, contributions: Sequence[Contribution]) -> Sequence[float]:
        """λ w_c; they do not add up to 1."""
        return [self.scale * contribution.weight for contribution in contributions]


class Dare(Operator):
    """DARE: drop and rescale, then the mean (Yu et al. 2024, arXiv 2311.03099, section 3.2).

    θ' = θ + Σ_c w_c m_c ⊙ (θ_c − θ) / ((1 − p) Σ_c w_c), with m_c ~ Bernoulli(1 − p) in each element. In expectation
    this is the mean.

    The masks depend on the seed, the round, the contributor's name and the array's name. Each element takes 16 random
    bits, so that the operator uses the multiple of 2⁻¹⁶ below 1 that is closest to p.

    Use it to find out whether updates have elements that are not needed, as the paper found for long finetunings.
    """

    name: ClassVar[str] = "dare"
    drop_rate: float = Field(0.5, ge=0, lt=1, description="p, the share of each update's elements that is dropped.")
    seed: int = Field(0, ge=0, description="Seed of the masks.")

    def __call__(self, base: Encoder, contributions: Iterable[Contribution]) -> EncoderDict:
        """See `Operator`."""
        total, weight = sum_of_updates(base, contributions, self._thin)
        return moved_by(base, total, 1 / ((1 - self._limit / _MASK_VALUES) * weight))

    @property
    def _limit(self) -> int:
        """An element is dropped if its random number from 0 to 2¹⁶ − 1 is below this one."""
        return min(round(self.drop_rate * _MASK_VALUES), _MASK_VALUES - 1)

    def _thin(self, contribution: Contribution, name: str, block: slice, update: np.ndarray) -> None:
        """Drop elements of a block of an update, in place."""
        # A block draws only its own bits: 64 of them are four numbers, and the start of a block is a multiple of 4.
        bits = np.random.PCG64(_seed(self.seed, contribution.round, contribution.name, name))
        bits.advance(block.start // 4)
        numbers = bits.random_raw(-(-update.size // 4)).astype("<u8", copy=False).view("<u2")
        np.multiply(update, numbers[: update.size] >= self._limit, out=update)

    def shares(self, contributions: Sequence[Contribution]) -> Sequence[float]:
        """The weights, divided by their sum: the factors in expectation."""
        return relative_weights(self, contributions)


def weighted_mean(parts: Iterable[tuple[Encoder, float]]) -> EncoderDict:
    """The weighted mean Σ w x / Σ w of encoders.

    Args:
        parts: encoders with equal names, shapes and dtypes, and their weights; read as `_groups` says.

    Returns:
        Arrays by name, with the dtypes of the first encoder.

    Raises:
        FusionError: there is no encoder, all weights are 0, or an encoder has other names than the first.
    """
    # Block by block on all cores, so that memory holds one sum, and blocks of the encoders.
    total: EncoderDict = {}
    dtypes: dict[str, np.dtype] = {}
    weights = 0.0
    for group in _groups(parts):
        if is_first := not dtypes:
            layouts = {name: read_layout(group[0][0], name) for name in group[0][0]}
            dtypes = {name: dtype for name, (dtype, _) in layouts.items()}
            total = _allocate_sums(layouts)
        if any(encoder.keys() != dtypes.keys() for encoder, _ in group):
            raise FusionError("contributions with different array names cannot be fused. Validate them first.")
        _add(group, total, is_first=is_first)
        for _, weight in group:
            weights += weight
    if not weights:
        raise FusionError("there is no contribution to fuse.")
    on_all_blocks(lambda name, block: _scale(total[name], block, 1 / weights), total)
    return {name: _as(array, dtypes[name]) for name, array in total.items()}


def one_at_a_time(contributions: Iterable[Contribution]) -> Iterator[Contribution]:
    """The contributions, read one at a time; raises a FusionError at the end if there was none."""
    count = 0
    for count, contribution in enumerate(contributions, start=1):  # noqa: B007
        yield contribution
    if not count:
        raise FusionError("there is no contribution to fuse.")


def sum_of_updates(
    base: Encoder,
    contributions: Iterable[Contribution],
    change: Callable[[Contribution, str, slice, np.ndarray], None] | None = None,
) -> tuple[EncoderDict, float]:
    """The sums Σ_c w_c change(θ_c − θ) and Σ_c w_c.

    Updates are small numbers, so their sum is more accurate than the sum of the weights themselves.

    Args:
        base: the arrays that the contributors started from.
        contributions: read as `_groups` says.
        change: changes a block of an update in place, by the contribution, the array's name and the block's place.
    """
    total = _allocate_sums({name: read_layout(base, name) for name in base})
    weights = 0.0
    for number, group in enumerate(_groups(contributions)):

        def add(name: str, block: slice, group: Sequence[Contribution] = group, *, is_first: bool = not number) -> None:
            sums, start = total[name].reshape(-1)[block], read_block(base, name, block)
            if is_first:
                sums.fill(0)
            for contribution in group:
                update = np.subtract(read_block(contribution.encoder, name, block), start, dtype=sums.dtype)
                if change:
                    change(contribution, name, block, update)
                _accumulate(sums, update, contribution.weight)

        on_all_blocks(add, total)
        for contribution in group:
            weights += contribution.weight
    return total, weights


def moved_by(base: Encoder, total: EncoderDict, scale: float) -> EncoderDict:
    """The arrays base + scale · total, in the base's dtypes; `total` is overwritten."""

    def move(name: str, block: slice) -> None:
        _scale(total[name], block, scale)
        total[name].reshape(-1)[block] += read_block(base, name, block)

    on_all_blocks(move, total)
    return {name: _as(total[name], array.dtype) for name, array in base.items()}


def _groups(parts: Iterable[_T]) -> Iterator[Sequence[_T]]:
    """All parts of a sequence together, which is faster; or those of an iterator one at a time.

    Raises:
        FusionError: there is none.
    """
    groups = [parts] if isinstance(parts, Sequence) else ([part] for part in parts)
    is_empty = True
    for group in groups:
        if group:
            is_empty = False
            yield group
    if is_empty:
        raise FusionError("there is no contribution to fuse.")


def _add(group: Sequence[tuple[Encoder, float]], total: Encoder, *, is_first: bool) -> None:
    """Add Σ w x over a group of encoders to the arrays `total`, which hold nothing yet if it is the first group."""

    def add(name: str, block: slice) -> None:
        sums = total[name].reshape(-1)[block]
        for number, (encoder, weight) in enumerate(group):
            read = read_block(encoder, name, block)
            if is_first and not number:
                np.multiply(read, weight, out=sums, dtype=sums.dtype)
            else:
                _accumulate(sums, read, weight)

    on_all_blocks(add, total)


def _accumulate(total: np.ndarray, block: np.ndarray, weight: float) -> None:
    """Add weight · block to total, in place."""
    np.add(total, block if weight == 1 else np.multiply(block, weight, dtype=total.dtype), out=total)


def _scale(array: np.ndarray, block: slice, factor: float) -> None:
    """Multiply a block of an array, in place."""
    scaled = array.reshape(-1)[block]
    np.multiply(scaled, factor, out=scaled)


@functools.lru_cache(maxsize=1 << 10)  # the blocks of an array have the same one
def _seed(seed: int, server_round: int, contributor: str, name: str) -> np.random.SeedSequence:
    """The seed of the mask of one array of a contribution."""
    return np.random.SeedSequence([seed, server_round, zlib.crc32(contributor.encode()), zlib.crc32(name.encode())])


def _as(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):  # `fuse` reports the array that is not finite
        return array.astype(dtype, copy=False)


def _allocate_sums(layouts: Mapping[str, tuple[np.dtype, tuple[int, ...]]]) -> EncoderDict:
    """Uninitialised arrays for sums of arrays with these dtypes and shapes: float32 for float16."""
    wide = {name: np.promote_types(dtype, np.float32) for name, (dtype, _) in layouts.items()}
    return allocate_together(wide, {name: shape for name, (_, shape) in layouts.items()})
