"""The mean with differential privacy, which hides whether a contributor took part."""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from coldfusion_fl.arrays.blocks import blocks, update_norm
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.fusion.contribution import Contribution, Operator
from coldfusion_fl.fusion.linear import moved_by, sum_of_updates


class PrivateMean(Operator):
    """The mean of clipped updates, with Gaussian noise (McMahan et al. 2018, arXiv 1710.06963, algorithm 1).

    θ' = θ + (Σ_c u_c · min(1, clip / ‖u_c‖₂) + N(0, (noise · clip)² I)) / |C|, with u_c = θ_c − θ. For each contributor
    this is a Gaussian mechanism with the noise multiplier `noise`, whatever the contributor sends. The noise comes from
    the system's entropy, because contributors know the run's seed. So a run cannot be reproduced exactly.

    Only floating-point arrays are protected. The server is trusted, because it sees the updates. Floating-point noise
    differs from true Gaussian noise in its last digits (Mironov 2012); there is no protection against an attack on
    that.

    Use it where readers of the bases must not learn whether a contributor took part. It needs many contributors in
    each round: with few, the noise costs more than fusing gains.
    """

    name: ClassVar[str] = "private-mean"
    is_average: ClassVar[bool] = True  # a plain mean of running statistics would have no noise
    uses_weights: ClassVar[bool] = False
    allows_screening: ClassVar[bool] = False
    clip: float = Field(
        1.0, gt=0, description="Maximum Euclidean norm of an update over all arrays; longer ones are clipped."
    )
    noise: float = Field(
        1.0, gt=0, description="Standard deviation of the noise in the sum of updates, in units of `clip`."
    )
    delta: float = Field(1e-5, gt=0, lt=1, description="δ of the (ε, δ) that each round's record reports.")

    def __call__(self, base: Encoder, contributions: Iterable[Contribution]) -> EncoderDict:
        """See `Operator`."""
        return self._fuse(base, contributions)[0]

    def fuse_with_shares(
        self, base: Encoder, contributions: Sequence[Contribution]
    ) -> tuple[EncoderDict, Sequence[float]]:
        """See `Operator`; a share is min(1, clip / ‖u_c‖₂) / |C|."""
        return self._fuse(base, contributions)

    def _fuse(self, base: Encoder, contributions: Iterable[Contribution]) -> tuple[EncoderDict, list[float]]:
        # Clip each update by its weight in the sum, then add the noise once to the sum.
        random = np.random.Generator(np.random.PCG64(secrets.randbits(128)))
        factors: list[float] = []

        def clipped() -> Iterator[Contribution]:
            for contribution in contributions:
                norm = update_norm(base, contribution.encoder)
                factors.append(1.0 if norm <= self.clip else self.clip / norm)
                yield replace(contribution, weight=factors[-1])

        total, _ = sum_of_updates(base, clipped())
        for array in total.values():
            flat = array.reshape(-1)
            for block in blocks(flat.size):  # the noise has twice the size of the array
                noise = random.normal(0.0, self.noise * self.clip, block.stop - block.start)
                np.add(flat[block], noise, out=flat[block], casting="same_kind")
        fused = moved_by(base, total, 1 / len(factors))
        return fused, [factor / len(factors) for factor in factors]
