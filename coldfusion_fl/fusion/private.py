"""The mean with differential privacy: no contributor's update, however unusual, shows in what is fused."""

import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from coldfusion_fl.arrays.blocks import update_norm
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.config.settings import setting
from coldfusion_fl.fusion.contribution import Contribution, Operator
from coldfusion_fl.fusion.linear import moved_by, sum_of_updates


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

    def __call__(self, base: Encoder, contributions: Iterable[Contribution]) -> EncoderDict:
        """See `Operator`."""
        random = np.random.Generator(np.random.PCG64(secrets.randbits(128)))
        count = 0

        def clipped() -> Iterator[Contribution]:
            nonlocal count
            for contribution in contributions:
                count += 1
                norm = update_norm(base, contribution.encoder)
                yield replace(contribution, weight=1.0 if norm <= self.clip else self.clip / norm)

        total, _ = sum_of_updates(base, clipped(), lambda contribution, name, update: update)
        for array in total.values():
            np.add(array, random.normal(0.0, self.noise * self.clip, array.shape), out=array, casting="same_kind")
        return {name: moved_by(array, total[name], 1 / count) for name, array in base.items()}
