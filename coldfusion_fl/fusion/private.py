"""The mean with differential privacy: no contributor's update, however unusual, shows in what is fused."""

import math
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from coldfusion_fl.fusion.blocks import blocks
from coldfusion_fl.fusion.contribution import Contribution, Encoder, Operator
from coldfusion_fl.fusion.linear import mean_of_updates
from coldfusion_fl.settings import setting


@dataclass(frozen=True)
class PrivateMean(Operator):
    """The mean of clipped updates, with Gaussian noise (McMahan et al. 2018, arXiv 1710.06963, algorithm 1).

    θ' = θ + (Σ_c u_c · min(1, clip / ‖u_c‖₂) + N(0, (noise · clip)² I)) / |C| with u_c = θ_c − θ: for each contributor
    a Gaussian mechanism of the multiplier `noise`, whatever it sends. The noise comes from the system's entropy and not
    from the run's seed, which contributors know: a run does not come out the same twice.

    It covers floating-point arrays. The server is trusted: it sees the updates. Noise of double precision can be told
    from true Gaussian noise in its last digits (Mironov 2012); nothing is done against that.

    Attributes:
        clip: the longest update that counts in full, as a Euclidean norm over all arrays.
        noise: the noise's standard deviation in units of `clip`, in the sum of the updates.
        delta: of the (ε, δ) that the round's record gives.
    """

    name: ClassVar[str] = "private-mean"
    weighs: ClassVar[bool] = False
    clip: float = setting(1.0, above=0)
    noise: float = setting(1.0, above=0)
    delta: float = setting(1e-5, above=0, below=1)

    def __call__(self, base: Encoder, contributions: Iterable[Contribution]) -> dict[str, np.ndarray]:
        """See `Operator`."""
        random = np.random.Generator(np.random.PCG64(secrets.randbits(128)))

        def clipped(contribution: Contribution) -> float:
            norm = _norm(base, contribution.encoder)
            return 1.0 if norm <= self.clip else self.clip / norm

        def noise(shape: tuple[int, ...]) -> np.ndarray:
            return random.normal(0.0, self.noise * self.clip, shape)

        return mean_of_updates(base, contributions, clipped, noise)


def _norm(base: Encoder, encoder: Encoder) -> float:
    total = 0.0
    for name, array in base.items():
        start, end = array.reshape(-1), encoder[name].reshape(-1)
        for block in blocks(start.size):
            update = np.subtract(end[block], start[block], dtype=np.float64)
            total += float(update @ update)
    return math.sqrt(total)
