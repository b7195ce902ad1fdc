"""Attacks: malicious or broken contributors, which send wrong updates or train on wrong labels."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from pydantic import Field

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.config.components import Component, parse_component


class Attack(Component):
    """What an attacker does."""

    def apply(self, update: Encoder, draw: np.random.Generator) -> Encoder:
        """The update that the attacker sends.

        Args:
            update: its honest update: the contribution minus the base, float32 arrays by name.
            draw: a random generator of the run, the round and the attacker.

        Returns:
            Arrays of the same names and shapes.
        """
        return update


class Noise(Attack):
    """Gaussian noise instead of the update."""

    name: ClassVar[str] = "noise"
    times: float = Field(
        10.0, gt=0, description="Norm of the noise over all arrays, as a multiple of the norm of the update."
    )

    def apply(self, update: Encoder, draw: np.random.Generator) -> Encoder:
        """See `Attack`."""
        noise = {name: draw.standard_normal(array.shape, np.float32) for name, array in update.items()}
        factor = self.times * _norm(update) / _norm(noise)
        return {name: factor * array for name, array in noise.items()}


class SignFlip(Attack):
    """The update with its sign flipped."""

    name: ClassVar[str] = "sign-flip"
    times: float = Field(1.0, gt=0, description="Norm of what is sent, as a multiple of the norm of the update.")

    def apply(self, update: Encoder, draw: np.random.Generator) -> Encoder:
        """See `Attack`."""
        return {name: -self.times * array for name, array in update.items()}


class LabelShuffled(Attack):
    """Honest training on rows whose labels are shuffled; the update itself is sent unchanged."""

    name: ClassVar[str] = "label-shuffled"


ATTACKS: dict[str, type[Attack]] = {kind.name: kind for kind in (Noise, SignFlip, LabelShuffled)}


def parse_attacks(attacks: Mapping[str, str]) -> dict[str, Attack]:
    """Parse the attack of each attacker.

    Raises:
        SettingsError: an attack is unknown, or a parameter is out of range.
    """
    return {name: parse_component(text, ATTACKS, f"attacker '{name}'") for name, text in attacks.items()}


def _norm(arrays: Encoder) -> float:
    return float(np.sqrt(sum(float(np.vdot(array, array)) for array in arrays.values())))
