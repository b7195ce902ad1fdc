"""From the fused encoder to the next base.

The difference Δ = θ_fused − θ is a pseudo-gradient (Reddi et al. 2021): each step here is a server optimiser on it. A
step is a small frozen dataclass and keeps nothing: what it must remember, it takes and returns, so that it can be part
of a round's record. As text: `nesterov(learning-rate=0.7, momentum=0.9)`.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.config.components import Component
from coldfusion_fl.config.settings import setting


class ServerOptimizer(Component):
    """Makes the next base of a base and a fused encoder."""

    def __call__(self, base: Encoder, fused: Encoder, state: EncoderDict) -> tuple[EncoderDict, EncoderDict]:
        """Take a step.

        Args:
            base: the arrays that the contributors began with.
            fused: what was fused of their contributions, in the same names, shapes and dtypes.
            state: what the step before returned; empty at first.

        Returns:
            The next base, in the base's dtypes, and the state: arrays by `KIND/NAME`. Arrays that are not
            floating-point are taken from `fused` as they are.
        """
        following: EncoderDict = {}
        kept: EncoderDict = {}
        for name, array in base.items():
            if array.dtype.kind != "f":
                following[name] = fused[name]
                continue
            memory = {kind: state[f"{kind}/{name}"] for kind in self.remembers if f"{kind}/{name}" in state}
            wide = np.promote_types(array.dtype, np.float32)  # squares of float16 would vanish
            change = self._change(np.subtract(fused[name], array, dtype=wide), memory)
            following[name] = np.asarray(array + change).astype(array.dtype, copy=False)
            kept |= {f"{kind}/{name}": np.asarray(value) for kind, value in memory.items()}
        return following, kept

    remembers: ClassVar[tuple[str, ...]] = ()

    def _change(self, delta: np.ndarray, memory: EncoderDict) -> np.ndarray:
        """What is added to one array of the base; `memory`, what is remembered of it, is brought up to date."""
        raise NotImplementedError


@dataclass(frozen=True)
class Plain(ServerOptimizer):
    """The paper's step: θ' = θ_fused (Don-Yehiya et al. 2023, section 3)."""

    name: ClassVar[str] = "plain"

    def __call__(self, base: Encoder, fused: Encoder, state: EncoderDict) -> tuple[EncoderDict, EncoderDict]:
        """See `ServerOptimizer`."""
        return dict(fused), {}


@dataclass(frozen=True)
class LearningRate(ServerOptimizer):
    """A learning rate: θ' = θ + η Δ, as WARP goes back towards its start (Ramé et al. 2024, arXiv 2406.16768, 3.3).

    Attributes:
        learning_rate: η; 1 is the paper's step.
    """

    name: ClassVar[str] = "learning-rate"
    learning_rate: float = setting(0.3, above=0)

    def _change(self, delta: np.ndarray, memory: EncoderDict) -> np.ndarray:
        return self.learning_rate * delta


@dataclass(frozen=True)
class HeavyBall(ServerOptimizer):
    """Heavy-ball momentum: v' = β v + Δ, θ' = θ + η v' (FedAvgM; Hsu et al. 2019, arXiv 1909.06335, section 4.3).

    Attributes:
        learning_rate: η.
        momentum: β.
    """

    name: ClassVar[str] = "heavy-ball"
    remembers: ClassVar[tuple[str, ...]] = ("momentum",)
    learning_rate: float = setting(1.0, above=0)
    momentum: float = setting(0.9, at_least=0, below=1)

    def _change(self, delta: np.ndarray, memory: EncoderDict) -> np.ndarray:
        velocity = memory["momentum"] = self.momentum * memory.get("momentum", np.zeros_like(delta)) + delta
        return self.learning_rate * velocity


@dataclass(frozen=True)
class Nesterov(HeavyBall):
    """Nesterov momentum: v' = β v + Δ, θ' = θ + η (Δ + β v') (DiLoCo; Douillard et al. 2023, arXiv 2311.08105, alg. 1).

    Attributes:
        learning_rate: η.
        momentum: β.
    """

    name: ClassVar[str] = "nesterov"
    learning_rate: float = setting(0.7, above=0)

    def _change(self, delta: np.ndarray, memory: EncoderDict) -> np.ndarray:
        velocity = memory["momentum"] = self.momentum * memory.get("momentum", np.zeros_like(delta)) + delta
        return self.learning_rate * (delta + self.momentum * velocity)


@dataclass(frozen=True)
class Adam(ServerOptimizer):
    """FedAdam: m' = β₁ m + (1 − β₁) Δ, v' = β₂ v + (1 − β₂) Δ², θ' = θ + η m' / (√v' + τ).

    Reddi et al. 2021, arXiv 2003.00295, algorithm 2; m and v begin at 0, and there is no bias correction, as there.

    Attributes:
        learning_rate: η: about the largest change of an element in a round.
        beta_1: of the mean.
        beta_2: of the mean square.
        tau: τ, how adaptive the step is: below it a change is not blown up to η.
    """

    name: ClassVar[str] = "adam"
    remembers: ClassVar[tuple[str, ...]] = ("first-moment", "second-moment")
    learning_rate: float = setting(1e-3, above=0)
    beta_1: float = setting(0.9, at_least=0, below=1)
    beta_2: float = setting(0.99, at_least=0, below=1)
    tau: float = setting(1e-3, above=0)

    def _change(self, delta: np.ndarray, memory: EncoderDict) -> np.ndarray:
        first, second = (memory.get(kind, np.zeros_like(delta)) for kind in self.remembers)
        first = memory["first-moment"] = self.beta_1 * first + (1 - self.beta_1) * delta
        second = memory["second-moment"] = self._second(second, np.square(delta))
        return self.learning_rate * first / (np.sqrt(second) + self.tau)

    def _second(self, second: np.ndarray, square: np.ndarray) -> np.ndarray:
        return self.beta_2 * second + (1 - self.beta_2) * square


@dataclass(frozen=True)
class Yogi(Adam):
    """FedYogi: as FedAdam, with v' = v − (1 − β₂) Δ² sign(v − Δ²): v moves no faster than Δ² lets it.

    Reddi et al. 2021, arXiv 2003.00295, algorithm 2.

    Attributes:
        learning_rate: η.
        beta_1: of the mean.
        beta_2: of the mean square.
        tau: τ.
    """

    name: ClassVar[str] = "yogi"

    def _second(self, second: np.ndarray, square: np.ndarray) -> np.ndarray:
        return second - (1 - self.beta_2) * square * np.sign(second - square)


SERVER_OPTIMIZERS: dict[str, type[ServerOptimizer]] = {
    optimizer.name: optimizer for optimizer in (Plain, LearningRate, HeavyBall, Nesterov, Adam, Yogi)
}


def moving_average(average: Encoder, base: Encoder, decay: float) -> EncoderDict:
    """An exponential moving average of the bases: a' = d a + (1 − d) θ'.

    Args:
        average: a, the average so far; at first the base that the run began with.
        base: θ', the next base, in the same names, shapes and dtypes.
        decay: d, at least 0 and below 1.

    Returns:
        The new average; arrays that are not floating-point are the base's.
    """
    return {
        name: np.asarray(decay * average[name] + (1 - decay) * array).astype(array.dtype, copy=False)
        if array.dtype.kind == "f"
        else array
        for name, array in base.items()
    }


def blend(first: Encoder, last: Encoder, share: float) -> EncoderDict:
    """Between the base that a run began with and what came of it: θ = (1 − s) θ₀ + s θ_last.

    Near θ₀ what the base knew survives, and most of what was learnt is there already (WiSE-FT; Wortsman et al. 2022,
    arXiv 2109.01903, section 3).

    Args:
        first: θ₀.
        last: θ_last, in the same names, shapes and dtypes.
        share: s, above 0 and at most 1.

    Returns:
        The blend; arrays that are not floating-point are the last ones.
    """
    return moving_average(first, last, 1 - share) if share < 1 else dict(last)
