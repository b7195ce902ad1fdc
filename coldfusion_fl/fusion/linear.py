"""Operators that are sums. They read one contribution at a time, so memory does not grow with their number."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from coldfusion_fl.arrays.blocks import allocate_together, blocks
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.errors import FusionError
from coldfusion_fl.fusion.contribution import Contribution, Operator, limit_to_median, relative_weights

# No data set has more rows, and much larger weights would overflow float32.
_MAX_WEIGHT = 1e12


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
        return weighted_mean((c.encoder, self.weight_of(c)) for c in contributions)

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
        total, _ = sum_of_updates(base, contributions, lambda contribution, name, update: update)
        return {name: moved_by(array, total[name], self.scale) for name, array in base.items()}

    def shares(self, contributions: Sequence[Contribution]) -> Sequence[float]:
        """λ w_c; they do not add up to 1."""
        return [self.scale * contribution.weight for contribution in contributions]


class Dare(Operator):
    """DARE: drop and rescale, then the mean (Yu et al. 2024, arXiv 2311.03099, section 3.2).

    θ' = θ + Σ_c w_c m_c ⊙ (θ_c − θ) / ((1 − p) Σ_c w_c), with m_c ~ Bernoulli(1 − p) in each element. In expectation
    this is the mean.

    The masks depend on the seed, the round, the contributor's name and the array's name.

    Use it to find out whether updates have elements that are not needed, as the paper found for long finetunings.
    """

    name: ClassVar[str] = "dare"
    drop_rate: float = Field(0.5, ge=0, lt=1, description="p, the share of each update's elements that is dropped.")
    seed: int = Field(0, ge=0, description="Seed of the masks.")

    def __call__(self, base: Encoder, contributions: Iterable[Contribution]) -> EncoderDict:
        """See `Operator`."""

        def thin(contribution: Contribution, name: str, update: np.ndarray) -> np.ndarray:
            entropy = [self.seed, contribution.round, zlib.crc32(contribution.name.encode()), zlib.crc32(name.encode())]
            keep = np.random.default_rng(entropy).random(update.shape, np.float32) >= self.drop_rate
            return np.multiply(update, keep, out=update)

        total, weight = sum_of_updates(base, contributions, thin)
        return {name: moved_by(array, total[name], 1 / ((1 - self.drop_rate) * weight)) for name, array in base.items()}

    def shares(self, contributions: Sequence[Contribution]) -> Sequence[float]:
        """The weights, divided by their sum: the factors in expectation."""
        return relative_weights(self, contributions)


def weighted_mean(parts: Iterable[tuple[Encoder, float]]) -> EncoderDict:
    """The weighted mean Σ w x / Σ w of encoders, read one at a time.

    Args:
        parts: encoders with equal names, shapes and dtypes, and their weights.

    Returns:
        Arrays by name, with the dtypes of the first encoder.

    Raises:
        FusionError: there is no encoder, all weights are 0, or an encoder has other names than the first.
    """
    # The running sum starts as the first encoder times its weight, so that memory holds one sum and one array.
    total: EncoderDict = {}
    dtypes: dict[str, np.dtype] = {}
    weights = 0.0
    for encoder, weight in parts:
        weights += weight
        if not dtypes:
            first = dict(encoder)
            dtypes = {name: array.dtype for name, array in first.items()}
            wide = {name: _wide(dtype) for name, dtype in dtypes.items()}
            total = allocate_together(wide, {name: array.shape for name, array in first.items()})
            for name, array in total.items():
                np.multiply(first.pop(name), weight, out=array)
        elif encoder.keys() != dtypes.keys():
            raise FusionError("contributions with different array names cannot be fused. Validate them first.")
        else:
            for name, array in total.items():
                _accumulate(array, encoder[name], weight)
    if not weights:
        raise FusionError("there is no contribution to fuse.")
    return {name: _as(np.multiply(array, 1 / weights, out=array), dtypes[name]) for name, array in total.items()}


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
    change: Callable[[Contribution, str, np.ndarray], np.ndarray],
) -> tuple[EncoderDict, float]:
    """The sums Σ_c w_c change(θ_c − θ) and Σ_c w_c.

    Updates are small numbers, so their sum is more accurate than the sum of the weights themselves.
    """
    total = {name: np.zeros(array.shape, _wide(array.dtype)) for name, array in base.items()}
    weights = 0.0
    for contribution in one_at_a_time(contributions):
        for name, array in total.items():
            update = np.subtract(contribution.encoder[name], base[name], dtype=array.dtype)
            _accumulate(array, change(contribution, name, np.asarray(update)), contribution.weight)
        weights += contribution.weight
    return total, weights


def _accumulate(total: np.ndarray, array: np.ndarray, weight: float) -> None:
    """Add weight · array to total, in place. The product is computed block by block, so that it stays in the cache."""
    if weight == 1:
        np.add(total, array, out=total)
        return
    flat, more = total.reshape(-1), array.reshape(-1)
    for block in blocks(flat.size):
        flat[block] += np.multiply(more[block], weight, dtype=flat.dtype)


def moved_by(base: np.ndarray, total: np.ndarray, scale: float) -> np.ndarray:
    """The array base + scale · total, in the base's dtype; `total` is overwritten."""
    total *= scale
    total += base
    return _as(total, base.dtype)


def _as(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):  # `fuse` reports the array that is not finite
        return array.astype(dtype, copy=False)


def _wide(dtype: np.dtype) -> np.dtype:
    """The dtype in which sums are accumulated."""
    return np.dtype(np.float32) if dtype == np.float16 else dtype
