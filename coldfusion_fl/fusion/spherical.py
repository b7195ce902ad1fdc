"""The mean on the sphere: it follows great circles, so its norm does not shrink as that of a plain mean does."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.fusion.contribution import Contribution, Operator
from coldfusion_fl.fusion.gram import gram
from coldfusion_fl.fusion.linear import one_at_a_time

_TINY = 1e-12


class Karcher(Operator):
    """The Karcher mean on the sphere, tensor by tensor (Karcher 1977, doi 10.1002/cpa.3160300502).

    θ' = (Σ_c w_c ‖θ_c‖) μ, where μ minimises Σ_c w_c d(μ, u_c)² over unit vectors, u_c = θ_c/‖θ_c‖, and d is the
    angle. It is found by gradient descent, μ ← exp_μ(Σ_c w_c log_μ(u_c)). For two contributions μ is the middle of
    the great circle between them (SLERP at t = 1/2). μ is always a linear combination of the contributions, so the
    iteration needs their inner products only.

    Use it where the norm of the weights should stay that of the contributions.
    """

    name: ClassVar[str] = "karcher"
    iterations: int = Field(20, ge=1, description="Maximum number of gradient steps.")
    tolerance: float = Field(1e-7, gt=0, description="Stop when the gradient is shorter than this, in radians.")

    def __call__(self, base: Encoder, contributions: Iterable[Contribution]) -> EncoderDict:
        """See `Operator`; `contributions` must be a sequence."""
        parts = list(one_at_a_time(contributions))
        weights = np.array([part.weight for part in parts])
        weights /= weights.sum()
        return {name: self._fuse([part.encoder for part in parts], name, weights) for name in base}

    def _fuse(self, encoders: Sequence[Encoder], name: str, weights: np.ndarray) -> np.ndarray:
        # Arrays of zeros have no direction, so they are left out.
        inner = gram(encoders, name)
        norms = np.sqrt(np.diag(inner))
        there = norms > _TINY
        if not there.any():
            return _combine(encoders, name, list(weights))
        shares = weights * there / (weights * there).sum()
        units = np.where(there, 1 / np.maximum(norms, _TINY), 0)
        cosines = inner * np.outer(units, units)  # of all pairs
        mean = self._mean(cosines, shares)
        return _combine(encoders, name, list(float(shares @ norms) * mean * units))

    def _mean(self, cosines: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """The unit vector μ, as coefficients of the unit vectors u_c, shape (n,)."""
        mean = shares.copy()
        length = np.sqrt(mean @ cosines @ mean)
        # Directions that cancel out have no mean. Then start from the direction with the highest weight.
        mean = mean / length if length > self.tolerance else np.eye(len(shares))[int(np.argmax(shares))]
        for _ in range(self.iterations):
            dots = np.clip(cosines @ mean, -1, 1)
            angles = np.arccos(dots)
            pull = shares * np.where(angles > _TINY, angles / np.maximum(np.sin(angles), _TINY), 0)
            tangent = pull - (pull @ dots) * mean
            length = np.sqrt(max(tangent @ cosines @ tangent, 0))
            if length < self.tolerance:
                break
            mean = np.cos(length) * mean + np.sin(length) / length * tangent
            mean /= np.sqrt(mean @ cosines @ mean)
        return mean


def _combine(encoders: Sequence[Encoder], name: str, factors: Sequence[float]) -> np.ndarray:
    """Σ_c f_c x_c of the arrays of one name, read one at a time."""
    total: np.ndarray | None = None
    for encoder, factor in zip(encoders, factors, strict=True):
        array = encoder[name]
        scaled = np.asarray(array * array.dtype.type(factor))  # an array of 0 dimensions would become a number
        total = scaled if total is None else np.add(total, scaled, out=total)
    return np.asarray(total)
