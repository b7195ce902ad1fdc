"""Screening: which contributions of a round may be fused, and why not the others.

Rules look at a round as a whole. They are applied one after another, each to the candidates that the rules before it
accepted. As text: `size(factor=5), direction(min-cosine=-0.1)`.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from coldfusion_fl.arrays.blocks import blocks, on_all_cores
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict, read_block
from coldfusion_fl.config.components import Component
from coldfusion_fl.fusion import Contribution, Operator

ScoreFunction = Callable[[Encoder], float]

# Elements of all updates in one block: a megabyte, which fits into a core's cache.
_BLOCK_ELEMENTS = 1 << 18

# The norms between this and its inverse do not let a product of float32 numbers overflow or become 0.
_SMALLEST_NORM = 1e-15


@dataclass(frozen=True)
class Candidate:
    """A valid contribution, and the facts that a rule may use.

    Attributes:
        contribution: its arrays may lie on disk.
        norm: ‖θ_c − θ‖₂ over all floating-point arrays.
        sha256: hash of its arrays.
        past_norms: the norms of the contributor's contributions that were fused in earlier rounds, oldest first.
        bytes: the size of its arrays as they were received; None: unknown.
        scale: the factor that its update was multiplied by because it is late.
    """

    contribution: Contribution
    norm: float
    sha256: str = ""
    past_norms: Sequence[float] = ()
    bytes: int | None = None
    scale: float = 1.0


class ScreeningRound:
    """The candidates of a round, as the rules see them.

    Args:
        base: θ, the arrays that the contributors started from.
        candidates: by contributor.
        operator: the operator that will fuse them.
        score_fn: the server's own score of an encoder, higher is better; None: the server has none.
    """

    def __init__(
        self,
        base: Encoder,
        candidates: Mapping[str, Candidate],
        operator: Operator,
        score_fn: ScoreFunction | None = None,
    ) -> None:
        self.base = base
        self.candidates = dict(sorted(candidates.items()))
        self.operator = operator
        self.score_fn = score_fn

    def without(self, names: Iterable[str]) -> "ScreeningRound":
        """The same round without some candidates."""
        left = self.candidates.keys() - set(names)
        return ScreeningRound(self.base, {name: self.candidates[name] for name in left}, self.operator, self.score_fn)

    @functools.cached_property
    def cosines(self) -> dict[str, float | None]:
        """The cosine between each update and the mean direction of the other updates.

        Each update counts as a unit vector. None if there are no other updates, or if a direction is undefined. Memory
        holds one block of all updates for each core.
        """
        # With u the unit vectors and S their sum, the others' sum is S − u. So ⟨u, S⟩ and ‖S‖² are enough, and both
        # are sums over arrays and blocks.
        found: dict[str, float | None] = dict.fromkeys(self.candidates)
        directed = [candidate for candidate in self.candidates.values() if candidate.norm]
        # A single update has no others. Rounding would give it a cosine nevertheless.
        if len(directed) < 2:
            return found
        names = sorted((n for n, a in self.base.items() if a.dtype.kind == "f"), key=lambda n: -self.base[n].size)
        parts = on_all_cores(lambda name: self._inner_products(name, directed), names)
        length = sum(squared for squared, _ in parts)
        along = np.sum([products for _, products in parts], axis=0)
        for candidate, product in zip(directed, along, strict=True):
            # ⟨u, S − u⟩ = ⟨u, S⟩ − 1 and ‖S − u‖² = ‖S‖² − 2 ⟨u, S⟩ + 1, because ‖u‖ = 1.
            others = max(length - 2 * product + 1, 0.0) ** 0.5
            found[candidate.contribution.name] = float(product - 1) / others if others > 1e-6 else None
        return found

    def _inner_products(self, name: str, candidates: Sequence[Candidate]) -> tuple[float, np.ndarray]:
        """For one array, with S the sum of the unit vectors u: ‖S‖², and ⟨u, S⟩ of each candidate, shape (n,)."""
        # The updates themselves are multiplied, and the products divided by their norms: fewer passes over the blocks.
        # Only norms at which a product could leave the range of float32 are divided before, in float64.
        start = self.base[name].reshape(-1)
        usual = [_SMALLEST_NORM < candidate.norm < 1 / _SMALLEST_NORM for candidate in candidates]
        scales = np.array([1 / one.norm if is_usual else 1 for one, is_usual in zip(candidates, usual, strict=True)])
        narrow = scales.astype(np.float32)
        length, along = 0.0, np.zeros(len(candidates))
        step = max(_BLOCK_ELEMENTS // len(candidates), 1024)
        room = np.empty((len(candidates), min(step, start.size)), np.float32)
        for block in blocks(start.size, step):
            updates = room[:, : block.stop - block.start]
            for candidate, update, is_usual in zip(candidates, updates, usual, strict=True):
                end = read_block(candidate.contribution.encoder, name, block)
                if is_usual:
                    np.subtract(end, start[block], out=update, dtype=np.float32)
                else:
                    update[:] = np.subtract(end, start[block], dtype=np.float64) / candidate.norm
            total = narrow @ updates
            along += scales * (updates @ total)
            length += float(total @ total)
        return length, along


@dataclass(frozen=True)
class ScreeningResult:
    """What a rule decides about a round.

    Attributes:
        rejected: reasons by contributor, each a clause.
        weights: new `Contribution.weight` by contributor, where the rule lowers it.
    """

    rejected: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)


class Rule(Component):
    """Decides which candidates of a round may not be fused, or get a lower weight.

    A rule compares candidates with each other. So its rejections do not count for `max-rejections`: a few contributors
    that agree on what they send could have an honest one excluded for good.

    Attributes:
        needs_score_function: whether it needs the server's own score of an encoder.
        changes_weights: whether it changes the weights of contributions.
    """

    needs_score_function: ClassVar[bool] = False
    changes_weights: ClassVar[bool] = False

    def __call__(self, round_: ScreeningRound) -> ScreeningResult:
        """Screen the candidates of a round."""
        raise NotImplementedError


def screen(round_: ScreeningRound, rules: Sequence[Rule]) -> tuple[ScreeningRound, dict[str, tuple[Rule, str]]]:
    """Apply rules to a round, one after another.

    Returns:
        The round with the accepted candidates and their weights; and for each rejected contributor the rule that
        rejected it and its reason.
    """
    rejected: dict[str, tuple[Rule, str]] = {}
    for rule in rules:
        if not round_.candidates:
            break
        result = rule(round_)
        rejected |= {name: (rule, reason) for name, reason in result.rejected.items()}
        # A new round, because the cosines of the remaining candidates are others.
        round_ = round_.without(result.rejected)
        for name, weight in result.weights.items():
            candidate = round_.candidates[name]
            lighter = replace(candidate.contribution, weight=weight)
            round_.candidates[name] = replace(candidate, contribution=lighter)
    return round_, rejected


def as_score_function(
    score_fn: ScoreFunction | None, complete: Callable[[Encoder], EncoderDict]
) -> ScoreFunction | None:
    """A score function that returns a Python float; a result that is not finite becomes the worst score, -inf.

    Args:
        score_fn: gets copies that it may write to, because PyTorch warns of arrays that are read-only.
        complete: adds the arrays to an encoder that are not fused.
    """
    if score_fn is None:
        return None

    def score(encoder: Encoder) -> float:
        value = float(score_fn({name: np.array(array) for name, array in complete(encoder).items()}))
        return value if math.isfinite(value) else -math.inf

    return score
