"""Contributions, and the base class of the operators that fuse them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.config.components import Component


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

    def __call__(self, base: Encoder, contributions: Iterable[Contribution]) -> EncoderDict:
        """Fuse floating-point arrays.

        Args:
            base: the arrays that the contributors started from.
            contributions: with the names, shapes and dtypes of the base. Mean-like operators take them one at a time,
                from any iterable. The others need a sequence, because they read it once for each array.

        Returns:
            Arrays by name, with the names, shapes and dtypes of the base.

        Raises:
            FusionError: there is no contribution, or the operator cannot fuse these.
        """
        raise NotImplementedError

    def weight_of(self, contribution: Contribution) -> float:
        """The relative weight of a contribution."""
        return contribution.weight if self.uses_weights else 1.0

    def rejection_reason(self, contribution: Contribution) -> str | None:
        """Why this operator cannot use a contribution, as a clause; None if it can."""
        return None


def shares(operator: Operator, contributions: Sequence[Contribution]) -> list[float]:
    """Each contribution's weight divided by the sum of all weights."""
    weights = [operator.weight_of(contribution) for contribution in contributions]
    return [weight / sum(weights) for weight in weights]
