"""What is fused, and what an operator is."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.config.components import Component


@dataclass(frozen=True)
class Contribution:
    """An encoder that came back from a contributor.

    Attributes:
        name: the contributor's.
        encoder: its arrays by name; a mapping may read each array from disk when it is asked for it.
        round: the round it is of, from 1.
        weight: its share against the others'; below 1 where a screening rule caps its influence.
        metrics: the numbers that the contributor reported, such as `num-examples`.
        fisher: a diagonal of its Fisher information, in the names and shapes of the encoder; None: not sent.
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
        weighs: whether it heeds `Contribution.weight`.
        exactly: it fuses so many contributions, no more and no fewer; None: any number from 1.
    """

    weighs: ClassVar[bool] = True
    exactly: ClassVar[int | None] = None

    def __call__(self, base: Encoder, contributions: Iterable[Contribution]) -> EncoderDict:
        """Fuse floating-point arrays.

        Args:
            base: the arrays that the contributors began with.
            contributions: with the names, shapes and dtypes of the base. Mean-like operators take them one at a time,
                from any iterable; the others need a sequence, and go through it tensor by tensor.

        Returns:
            Arrays by name, with the names, shapes and dtypes of the base.

        Raises:
            FusionError: there is no contribution, or the operator cannot fuse these.
        """
        raise NotImplementedError

    def weight_of(self, contribution: Contribution) -> float:
        """A contribution's weight against the others'."""
        return contribution.weight if self.weighs else 1.0

    def rejection_reason(self, contribution: Contribution) -> str | None:
        """Why this operator cannot take a contribution, as a clause; None where it can."""
        return None


def shares(operator: Operator, contributions: Sequence[Contribution]) -> list[float]:
    """Each contribution's share of the weights of all, between 0 and 1."""
    weights = [operator.weight_of(contribution) for contribution in contributions]
    return [weight / sum(weights) for weight in weights]
