"""Server optimizers: from the fused encoder to the next base.

The difference Δ = θ_fused − θ is a pseudo-gradient (Reddi et al. 2021), and each class here is an optimizer on it. A
server optimizer has no state of its own. It takes its state as an argument and returns the new one, so that the state
can be saved with the round. As text: `nesterov(learning-rate=0.7, momentum=0.9)`.

To add an optimizer, write a subclass of `ServerOptimizer`, and add it to the registry `SERVER_OPTIMIZERS` below.
"""

import functools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from coldfusion_fl.arrays.blocks import update_norm
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.config.components import Component

# Adam and Yogi: the rounds whose sizes of Δ are compared, the key of these sizes in the state, the multiple of the
# usual size at which an element of Δ is clipped, and how far the usual size must fall for the moments to start again.
_RECENT = 5
_SIZES = "recent-sizes"
_CLIP = 3.0
_FALL = 5.0


class ServerOptimizer(Component):
    """Makes the next base of a base and a fused encoder.

    Attributes:
        state_kinds: the kinds of arrays in its state, such as `momentum`.
    """

    state_kinds: ClassVar[tuple[str, ...]] = ()

    def __call__(self, base: Encoder, fused: Encoder, state: EncoderDict) -> tuple[EncoderDict, EncoderDict]:
        """Take a step.

        Args:
            base: θ, the arrays that the contributors started from.
            fused: θ_fused, in the same names, shapes and dtypes.
            state: the state that the last step returned; empty at first.

        Returns:
            The next base, in the base's dtypes, and the new state: arrays by `KIND/NAME`. Arrays that are not
            floating-point are copied from `fused`.
        """
        return self._step(base, fused, state, self._change)

    def _step(
        self,
        base: Encoder,
        fused: Encoder,
        state: EncoderDict,
        change_of: Callable[[np.ndarray, EncoderDict], np.ndarray],
    ) -> tuple[EncoderDict, EncoderDict]:
        """As the optimizer itself, with the function `_change` of each array."""
        next_base: EncoderDict = {}
        kept: EncoderDict = {}
        for name, array in base.items():
            if array.dtype.kind != "f":
                next_base[name] = fused[name]
                continue
            memory = {kind: state[f"{kind}/{name}"] for kind in self.state_kinds if f"{kind}/{name}" in state}
            wide = np.promote_types(array.dtype, np.float32)  # squares of small float16 numbers would become 0
            change = change_of(np.subtract(fused[name], array, dtype=wide), memory)
            next_base[name] = np.asarray(array + change).astype(array.dtype, copy=False)
            kept |= {f"{kind}/{name}": np.asarray(value) for kind, value in memory.items()}
        return next_base, kept

    def _change(self, delta: np.ndarray, memory: EncoderDict) -> np.ndarray:
        """The change of one array of the base; its state in `memory`, by kind, is updated in place."""
        raise NotImplementedError


class Plain(ServerOptimizer):
    """The paper's step: θ' = θ_fused (Don-Yehiya et al. 2023, section 3).

    Use it first, and wherever contributors get new heads in each round.
    """

    name: ClassVar[str] = "plain"

    def __call__(self, base: Encoder, fused: Encoder, state: EncoderDict) -> tuple[EncoderDict, EncoderDict]:
        """See `ServerOptimizer`."""
        return dict(fused), {}


class LearningRate(ServerOptimizer):
    """A learning rate: θ' = θ + η Δ; below 1 as in WARP (Ramé et al. 2024, arXiv 2406.16768, section 3.3).

    Use it to keep more of the base in each round, at the price of slower progress.
    """

    name: ClassVar[str] = "learning-rate"
    learning_rate: float = Field(0.3, gt=0, description="η; 1 is the paper's step.")

    def _change(self, delta: np.ndarray, memory: EncoderDict) -> np.ndarray:
        return self.learning_rate * delta


class HeavyBall(ServerOptimizer):
    """Heavy-ball momentum: v' = β v + Δ, θ' = θ + η v' (FedAvgM; Hsu et al. 2019, arXiv 1909.06335, section 4.3).

    Use it with kept heads (`keep-head = true`), so that the updates of successive rounds share a direction.
    """

    name: ClassVar[str] = "heavy-ball"
    state_kinds: ClassVar[tuple[str, ...]] = ("momentum",)
    learning_rate: float = Field(1.0, gt=0, description="η.")
    momentum: float = Field(0.9, ge=0, lt=1, description="β.")

    def _change(self, delta: np.ndarray, memory: EncoderDict) -> np.ndarray:
        velocity = memory["momentum"] = self.momentum * memory.get("momentum", np.zeros_like(delta)) + delta
        return self.learning_rate * velocity


class Nesterov(HeavyBall):
    """Nesterov momentum: v' = β v + Δ, θ' = θ + η (Δ + β v').

    DiLoCo; Douillard et al. 2023, arXiv 2311.08105, algorithm 1.

    Use it with kept heads (`keep-head = true`), as in the preset `recommended`.
    """

    name: ClassVar[str] = "nesterov"
    learning_rate: float = Field(0.7, gt=0, description="η.")

    def _change(self, delta: np.ndarray, memory: EncoderDict) -> np.ndarray:
        velocity = memory["momentum"] = self.momentum * memory.get("momentum", np.zeros_like(delta)) + delta
        return self.learning_rate * (delta + self.momentum * velocity)


class Adam(ServerOptimizer):
    """FedAdam: m' = β₁ m + (1 − β₁) Δ, v' = β₂ v + (1 − β₂) Δ², θ' = θ + η m' / (√v' + τ).

    Reddi et al. 2021, arXiv 2003.00295, algorithm 2. As there, m and v start at 0 and have no bias correction.

    One bad round would stay in v for hundreds of rounds. So each element of Δ is clipped to three times √v + s, as in
    ACClip (Zhang et al. 2020, arXiv 1912.03194, algorithm 2). Here s is the lower median of the root mean squares of
    the last five Δ. If s falls to less than a fifth, the rounds before were the bad ones, and m and v start again at 0.

    Use it where elements need steps of different sizes. η is about the size of a step, so it must fit the base.
    """

    name: ClassVar[str] = "adam"
    state_kinds: ClassVar[tuple[str, ...]] = ("first-moment", "second-moment")
    learning_rate: float = Field(1e-3, gt=0, description="η, about the largest change of an element in a round.")
    beta_1: float = Field(0.9, ge=0, lt=1, description="β₁, the decay of the mean of Δ.")
    beta_2: float = Field(0.99, ge=0, lt=1, description="β₂, the decay of the mean of Δ².")
    tau: float = Field(1e-3, gt=0, description="τ, the adaptivity: much smaller changes are not scaled up to η.")

    def __call__(self, base: Encoder, fused: Encoder, state: EncoderDict) -> tuple[EncoderDict, EncoderDict]:
        """See `ServerOptimizer`; the state also has the root mean squares of the last Δ, shape (n,), float64."""
        weights = sum(array.size for array in base.values() if array.dtype.kind == "f")
        before = [float(size) for size in state.get(_SIZES, ())]
        size = update_norm(base, fused) / math.sqrt(max(1, weights))
        sizes = [*before, size][-_RECENT:] if size else before  # a round without any change says nothing
        usual = _usual(sizes)
        if usual * _FALL < _usual(before):
            state = {}
        change = functools.partial(self._clipped_change, usual=usual)
        next_base, kept = self._step(base, fused, state, change)
        return next_base, {**kept, _SIZES: np.array(sizes, np.float64)}

    def _clipped_change(self, delta: np.ndarray, memory: EncoderDict, usual: float) -> np.ndarray:
        second = memory.get("second-moment", np.zeros_like(delta))
        limit = (_CLIP * (np.sqrt(second) + usual)).astype(delta.dtype, copy=False)
        return self._change(np.clip(delta, -limit, limit), memory)

    def _change(self, delta: np.ndarray, memory: EncoderDict) -> np.ndarray:
        first, second = (memory.get(kind, np.zeros_like(delta)) for kind in self.state_kinds)
        first = memory["first-moment"] = self.beta_1 * first + (1 - self.beta_1) * delta
        second = memory["second-moment"] = self._second(second, np.square(delta))
        return self.learning_rate * first / (np.sqrt(second) + self.tau)

    def _second(self, second: np.ndarray, square: np.ndarray) -> np.ndarray:
        return self.beta_2 * second + (1 - self.beta_2) * square


class Yogi(Adam):
    """FedYogi: FedAdam with v' = v − (1 − β₂) Δ² sign(v − Δ²), so that v changes by no more than Δ² in a round.

    Reddi et al. 2021, arXiv 2003.00295, algorithm 2. Δ is clipped as with `adam`.

    Use it instead of `adam` where the sizes of the updates change quickly between rounds.
    """

    name: ClassVar[str] = "yogi"

    def _second(self, second: np.ndarray, square: np.ndarray) -> np.ndarray:
        return second - (1 - self.beta_2) * square * np.sign(second - square)


def _usual(sizes: Sequence[float]) -> float:
    """The usual size; 0 where there is none. The lower median: of two sizes, nothing shows which one is wrong."""
    return statistics.median_low(sizes) if sizes else 0.0


SERVER_OPTIMIZERS: dict[str, type[ServerOptimizer]] = {
    optimizer.name: optimizer
    for optimizer in (
        Plain,
        LearningRate,
        HeavyBall,
        Nesterov,
        Adam,
        Yogi,
    )
}


def moving_average(average: Encoder, base: Encoder, decay: float) -> EncoderDict:
    """An exponential moving average of the bases: a' = d a + (1 − d) θ'.

    Args:
        average: a, the average so far; at first the first base.
        base: θ', the next base, in the same names, shapes and dtypes.
        decay: d, at least 0 and below 1.

    Returns:
        The new average; arrays that are not floating-point are copied from the base.
    """
    return {
        name: np.asarray(decay * average[name] + (1 - decay) * array).astype(array.dtype, copy=False)
        if array.dtype.kind == "f"
        else array
        for name, array in base.items()
    }


def blend(first: Encoder, last: Encoder, share: float) -> EncoderDict:
    """Interpolate between a run's first base and the average of its bases: θ = (1 − s) θ₀ + s θ_avg, with s = `blend`.

    It keeps more of the first base's abilities, and most of what was learnt (WiSE-FT; Wortsman et al. 2022, arXiv
    2109.01903, section 3).

    Args:
        first: θ₀.
        last: θ_avg, in the same names, shapes and dtypes.
        share: s, above 0 and at most 1.

    Returns:
        The interpolated encoder; arrays that are not floating-point are copied from `last`.
    """
    return moving_average(first, last, 1 - share) if share < 1 else dict(last)
