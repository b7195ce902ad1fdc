"""Contributions, and the base class of the operators that fuse them."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.config.components import Component

# No weight that contributors report themselves counts for more than this multiple of the round's lower median.
MAX_TO_MEDIAN = 5.0


@dataclass(frozen=True)
class Contribution:
    """An encoder that came back from a contributor.

    Attributes:
        name: the contributor's name.
        encoder: its arrays by name; the mapping may read each array from disk on access.
        round: number of the round that it belongs to, from 1.
        weight: relative weight; below 1 if a screening rule caps its influence.
        metrics: the numbers that the contributor reported, such as `num-examples`.
        fisher: the diagonal of its Fisher information, in the names and shapes of the encoder; None: not sent.
    """

    name: str
    encoder: Encoder
    round: int = 0
    weight: float = 1.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    fisher: Encoder | None = None


class Operator(Component):
    """Fuses contributions into one encoder.

    Attributes:
        is_average: whether each element is an average of the contributions' elements; then it also fuses running
            statistics, which are averaged otherwise.
        uses_weights: whether it uses `Contribution.weight`.
        needs_fisher: whether each contribution must bring the diagonal of its Fisher information.
        allows_screening: whether contributions may be rejected by what others have sent.
    """

    is_average: ClassVar[bool] = False
    uses_weights: ClassVar[bool] = True
    needs_fisher: ClassVar[bool] = False
    allows_screening: ClassVar[bool] = True

    @property
    def reported_weight(self) -> str | None:
        """The name of the number that contributors report as their weight; None: it uses none."""
        return None

    def __call__(self, base: Encoder, contributions: Iterable[Contribution]) -> EncoderDict:
        """Fuse floating-point arrays.

        Args:
            base: the arrays that the contributors started from.
            contributions: with the names, shapes and dtypes of the base. Mean-like operators take them one at a time
                from an iterator. The others need a sequence, because they read it several times.

        Returns:
            Arrays by name, with the names, shapes and dtypes of the base.

        Raises:
            FusionError: there is no contribution, or the operator cannot fuse these.
        """
        raise NotImplementedError

    def fuse_with_shares(
        self, base: Encoder, contributions: Sequence[Contribution]
    ) -> tuple[EncoderDict, Sequence[float] | None]:
        """Fuse floating-point arrays, and say how much each contribution counts.

        Args:
            base: as for the operator itself.
            contributions: the same.

        Returns:
            What the operator returns; and the shares: by contribution, the factor of its update in the fused update, as
            the mean over all elements where elements have different factors. None: the operator has no such factors.

        Raises:
            FusionError: as the operator itself.
        """
        return self(base, contributions), self.shares(contributions)

    def shares(self, contributions: Sequence[Contribution]) -> Sequence[float] | None:
        """The shares of `fuse_with_shares`, where they follow from the weights alone."""
        return None

    def limit_weights(self, contributions: Sequence[Contribution]) -> list[Contribution]:
        """The contributions of a round, where a weight that one reports is limited by those of the others."""
        return list(contributions)

    def weight_of(self, contribution: Contribution) -> float:
        """The relative weight of a contribution."""
        return contribution.weight if self.uses_weights else 1.0

    def rejection_reason(self, contribution: Contribution) -> str | None:
        """Why this operator cannot use a contribution, as a clause; None if it can."""
        return None


def limit_to_median(weights: Sequence[float]) -> list[float]:
    """Weights, none of which is above `MAX_TO_MEDIAN` times their lower median.

    The lower one, because of two weights nothing shows which one is false.
    """
    limit = MAX_TO_MEDIAN * statistics.median_low(weights) if weights else 0.0
    return [min(weight, limit) for weight in weights]


def relative_weights(operator: Operator, contributions: Sequence[Contribution]) -> list[float]:
    """Each contribution's weight divided by the sum of all weights."""
    weights = [operator.weight_of(contribution) for contribution in contributions]
    return [weight / sum(weights) for weight in weights]
