"""Operators on the sphere: they go along great circles, so that the norm does not shrink as a mean's does."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.config.settings import setting
from coldfusion_fl.errors import FusionError
from coldfusion_fl.fusion.contribution import Contribution, Operator
from coldfusion_fl.fusion.gram import gram
from coldfusion_fl.fusion.linear import one_at_a_time

# From this cosine on two directions are one, and the way between them a straight line.
_PARALLEL = 0.9995
_TINY = 1e-12


@dataclass(frozen=True)
class Slerp(Operator):
    """Spherical interpolation of two contributions, tensor by tensor (Shoemake 1985, doi 10.1145/325165.325242).

    θ' = (sin((1 − t) φ) θ_a + sin(t φ) θ_b) / sin φ, where φ is the angle between θ_a and θ_b, in the order of their
    names; (1 − t) θ_a + t θ_b where they are nearly parallel.

    Attributes:
        t: 0 is the first, 1 the second.
    """

    name: ClassVar[str] = "slerp"
    weighs: ClassVar[bool] = False
    exactly: ClassVar[int | None] = 2
    t: float = setting(0.5, at_least=0, at_most=1)

    def __call__(self, base: Encoder, contributions: Iterable[Contribution]) -> EncoderDict:
        """See `Operator`; exactly two contributions."""
        parts = list(one_at_a_time(contributions))
        if len(parts) != self.exactly:
            raise FusionError(f"slerp joins two contributions, not {len(parts)}. For more take 'karcher'.")
        return {name: self._fuse(*(part.encoder[name] for part in parts)) for name in base}

    def _fuse(self, one: np.ndarray, other: np.ndarray) -> np.ndarray:
        inner = gram([one, other])
        norms = np.sqrt(np.diag(inner))
        cosine = float(inner[0, 1] / norms[0] / norms[1]) if norms.all() else 1.0
        if abs(cosine) > _PARALLEL:
            return _combine([one, other], [1 - self.t, self.t])
        angle = np.arccos(np.clip(cosine, -1, 1))
        factors = np.sin([(1 - self.t) * angle, self.t * angle]) / np.sin(angle)
        return _combine([one, other], list(factors))


@dataclass(frozen=True)
class Karcher(Operator):
    """The Karcher mean on the sphere, tensor by tensor (Karcher 1977, doi 10.1002/cpa.3160300502).

    θ' = (Σ_c w_c ‖θ_c‖) μ, with μ = argmin over unit vectors of Σ_c w_c d(μ, θ_c/‖θ_c‖)², d the angle; by
    gradient descent μ ← exp_μ(Σ_c w_c log_μ(u_c)). μ stays a combination of the contributions, so that the iteration
    runs on their inner products alone.

    Attributes:
        iterations: at most so many.
        tolerance: stop when the gradient is shorter, in radians.
    """

    name: ClassVar[str] = "karcher"
    iterations: int = setting(20, at_least=1)
    tolerance: float = setting(1e-7, above=0)

    def __call__(self, base: Encoder, contributions: Iterable[Contribution]) -> EncoderDict:
        """See `Operator`; `contributions` must be a sequence."""
        parts = list(one_at_a_time(contributions))
        weights = np.array([part.weight for part in parts])
        weights /= weights.sum()
        return {name: self._fuse([part.encoder[name] for part in parts], weights) for name in base}

    def _fuse(self, arrays: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
        inner = gram(arrays)
        norms = np.sqrt(np.diag(inner))
        there = norms > _TINY
        if not there.any():
            return _combine(arrays, list(weights))
        shares = weights * there / (weights * there).sum()
        units = np.where(there, 1 / np.maximum(norms, _TINY), 0)
        cosines = inner * np.outer(units, units)  # of all pairs
        mean = self._mean(cosines, shares)
        return _combine(arrays, list(float(shares @ norms) * mean * units))

    def _mean(self, cosines: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """The unit vector μ as factors of the unit vectors u_c."""
        mean = shares.copy()
        length = np.sqrt(mean @ cosines @ mean)
        # Directions that cancel out have no mean to start from: start at the first.
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


def _combine(arrays: Sequence[np.ndarray], factors: Sequence[float]) -> np.ndarray:
    total = arrays[0] * arrays[0].dtype.type(factors[0])
    for array, factor in zip(arrays[1:], factors[1:], strict=True):
        total += array * array.dtype.type(factor)
    return np.asarray(total)
