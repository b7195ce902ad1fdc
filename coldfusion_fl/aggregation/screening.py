"""Which contributions may be fused, and why not the others.

The rules look at a round as a whole, one after another, each at
those that the rules before it let through. As text: `size(factor=5), direction(min-cosine=-0.1)`.
"""

import functools
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np

from coldfusion_fl.arrays.blocks import blocks, on_all_cores
from coldfusion_fl.arrays.disk_arrays import DiskArrays
from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.config.components import Component
from coldfusion_fl.config.settings import setting
from coldfusion_fl.fusion import Contribution, Mean, Operator, fuse, shares

ScoreFunction = Callable[[Encoder], float]

# With fewer to compare with, nobody can be told from the others.
_COMPANY = 3
# Elements of all updates in a block: a megabyte, which a core's cache holds.
_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Candidate:
    """A contribution that fits the base, and what a rule may know of it.

    Attributes:
        contribution: its arrays may lie on disk.
        norm: ‖θ_c − θ‖₂ over all floating-point arrays.
        sha256: of its arrays.
        past: the norms of its contributions that were fused in earlier rounds, oldest first.
    """

    contribution: Contribution
    norm: float
    sha256: str = ""
    past: Sequence[float] = ()


class Round:
    """The candidates of a round, as the rules see them.

    Args:
        base: the arrays that the contributors began with.
        candidates: by name.
        operator: what will fuse them.
        score_fn: the server's own held-out score of an encoder, more is better; None: it has none.
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

    def without(self, names: Iterable[str]) -> "Round":
        """The same round without some candidates."""
        left = self.candidates.keys() - set(names)
        return Round(self.base, {name: self.candidates[name] for name in left}, self.operator, self.score_fn)

    @functools.cached_property
    def cosines(self) -> dict[str, float | None]:
        """The cosine of each update to the mean direction of the others' updates.

        Each of the others counts alike, however long its update. None where there are no others, or no direction.
        Memory holds one block of all updates on each core.
        """
        found: dict[str, float | None] = dict.fromkeys(self.candidates)
        directed = [candidate for candidate in self.candidates.values() if candidate.norm]
        if not directed:
            return found
        names = sorted((n for n, a in self.base.items() if a.dtype.kind == "f"), key=lambda n: -self.base[n].size)
        parts = on_all_cores(lambda name: self._inner_products(name, directed), names)
        length = sum(squared for squared, _ in parts)
        along = np.sum([products for _, products in parts], axis=0)
        for candidate, product in zip(directed, along, strict=True):
            # The sum without this one: ⟨u, S − u⟩ and ‖S − u‖², with ‖u‖ = 1.
            others = max(length - 2 * product + 1, 0.0) ** 0.5
            found[candidate.contribution.name] = float(product - 1) / others if others > 1e-6 else None
        return found

    def _inner_products(self, name: str, candidates: Sequence[Candidate]) -> tuple[float, np.ndarray]:
        """Of one array, with S the sum of the directions: ‖S‖², and each direction's ⟨u, S⟩, shape (n,)."""
        start = self.base[name].reshape(-1)
        length, along = 0.0, np.zeros(len(candidates))
        for block in blocks(start.size, max(_AT_ONCE // len(candidates), 1024)):
            directions = np.empty((len(candidates), block.stop - block.start), np.float32)
            for candidate, direction in zip(candidates, directions, strict=True):
                kind = np.float32 if 1e-30 < candidate.norm < 1e30 else np.float64  # on the way; no size is too large
                update = np.subtract(_part(candidate, name, block), start[block], dtype=kind)
                np.divide(update, candidate.norm, out=direction, casting="same_kind")
            total = directions.sum(axis=0)
            along += directions @ total
            length += float(total @ total)
        return length, along


def _part(candidate: Candidate, name: str, block: slice) -> np.ndarray:
    encoder = candidate.contribution.encoder
    return encoder.part(name, block) if isinstance(encoder, DiskArrays) else encoder[name].reshape(-1)[block]


@dataclass(frozen=True)
class ScreeningResult:
    """What a rule says of a round.

    Attributes:
        rejected: reasons by name, each a clause that a person understands.
        weights: `Contribution.weight` by name, where the rule lowers it.
    """

    rejected: Mapping[str, str] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)


class Rule(Component):
    """Says which candidates of a round may not be fused, or must count for less."""

    needs_score_function: ClassVar[bool] = False
    # Whether what it rejects counts against its sender.
    counts: ClassVar[bool] = True

    def __call__(self, round_: Round) -> ScreeningResult:
        """Judge the candidates of a round."""
        raise NotImplementedError

    @property
    def blocked(self) -> tuple[str, ...]:
        """Contributors that are not even asked."""
        return ()


@dataclass(frozen=True)
class Size(Rule):
    """Rejects an update that is too large, or suspiciously near zero.

    Against the median of the round where it has three candidates or more, and against the median of the contributor's
    own past from its fourth contribution on. An update of exactly zero is always rejected.

    Attributes:
        factor: too large is more than so many times the median.
        least: near zero is less than this share of the median.
    """

    name: ClassVar[str] = "size"
    factor: float = setting(5.0, above=1)
    least: float = setting(0.01, at_least=0, below=1)

    def __call__(self, round_: Round) -> ScreeningResult:
        """See `Rule`."""
        norms = [candidate.norm for candidate in round_.candidates.values()]
        rejected = {}
        for name, candidate in round_.candidates.items():
            against = ((norms, "the round's median"), (candidate.past, "the median of its own past"))
            reasons = (self._reason(candidate.norm, others, what) for others, what in against)
            if not candidate.norm:
                rejected[name] = "it sent the base back unchanged"
            elif reason := next(filter(None, reasons), None):
                rejected[name] = reason
        return ScreeningResult(rejected)

    def _reason(self, norm: float, others: Sequence[float], what: str) -> str | None:
        if len(others) < _COMPANY or not (usual := statistics.median(others)):
            return None
        if self.least * usual <= norm <= self.factor * usual:
            return None
        verdict = "too large" if norm > usual else "suspiciously small"
        return f"its update is {verdict}: {norm / usual:.3g} times {what} (a norm of {norm:.3g} against {usual:.3g})"


@dataclass(frozen=True)
class Direction(Rule):
    """Rejects an update that points away from the others' mean direction; in rounds of three candidates or more.

    It tells a stranger among updates that share a direction, as those of one model with one head do. Short finetunings
    that begin with fresh heads do not share one: those of eight data sets had cosines between −0.03 and 0.03, turned
    ones among them (experiments/results/attacks/logs). A head of the other sign would have turned the update as well,
    so that a turned one is no outlier there.

    Attributes:
        min_cosine: rejected below this cosine.
    """

    name: ClassVar[str] = "direction"
    min_cosine: float = setting(-0.1, at_least=-1, at_most=1)

    def __call__(self, round_: Round) -> ScreeningResult:
        """See `Rule`; the one that points away most goes first, since it bends the others' mean direction."""
        rejected: dict[str, str] = {}
        while len(round_.candidates) >= _COMPANY:
            cosines = {name: cosine for name, cosine in round_.cosines.items() if cosine is not None}
            worst = min(cosines, key=lambda name: cosines[name], default=None)
            if worst is None or cosines[worst] >= self.min_cosine:
                break
            rejected[worst] = (
                f"its update points away from the others': a cosine of {cosines[worst]:.3f}, below {self.min_cosine:g}"
            )
            round_ = round_.without([worst])
        return ScreeningResult(rejected)


@dataclass(frozen=True)
class GreedySoup(Rule):
    """A held-out gate, the greedy soup of Wortsman et al. 2022 (arXiv 2203.05482, recipe 1).

    The contributions are added to a uniform mean in the order of their own probe scores; one with which the mean's
    score would fall is rejected. The best one always passes, even where it is worse than the base: from that a rollback
    guards. It probes twice per contribution. What does not help today's mean may help tomorrow's,
    so that a rejection does not count against its sender.

    Attributes:
        tolerance: a fall of so much, in the probe's own units, is let through. With 0 a probe of 500 rows rejected 37
            of 48 honest contributions of eight tasks (experiments/results/attacks).
    """

    name: ClassVar[str] = "greedy-soup"
    needs_score_function: ClassVar[bool] = True
    counts: ClassVar[bool] = False
    tolerance: float = setting(0.0, at_least=0)

    def __call__(self, round_: Round) -> ScreeningResult:
        """See `Rule`."""
        score_fn = round_.score_fn
        if score_fn is None:
            raise TypeError("a gate needs a probe")
        own = {name: score_fn(candidate.contribution.encoder) for name, candidate in round_.candidates.items()}
        kept: list[Contribution] = []
        best, rejected = -float("inf"), {}
        for name in sorted(own, key=lambda name: (-own[name], name)):
            if not math.isfinite(own[name]):
                rejected[name] = "the server's probe gives no number for it"
                continue
            soup = [*kept, round_.candidates[name].contribution]
            score = score_fn(fuse(Mean(), round_.base, soup)) if kept else own[name]
            if score >= best - self.tolerance:
                kept, best = soup, max(best, score)
            else:
                rejected[name] = f"with it the server's probe would fall from {best:.4g} to {score:.4g}"
        return ScreeningResult(rejected)


@dataclass(frozen=True)
class InfluenceCap(Rule):
    """Caps each contributor's influence: its share of Σ_c w_c ‖θ_c − θ‖, the length of all updates that are fused.

    Whoever has more counts for less, by its weight; with so few updates that the shares cannot all be so small, they
    become equal. An update of zero has no influence, and none to lower.

    Attributes:
        share: at most this share of the whole.
    """

    name: ClassVar[str] = "influence-cap"
    share: float = setting(0.25, above=0, at_most=1)

    def __call__(self, round_: Round) -> ScreeningResult:
        """See `Rule`."""
        parts = [candidate.contribution for candidate in round_.candidates.values()]
        if not parts or not round_.operator.weighs:
            return ScreeningResult()
        norms = [candidate.norm for candidate in round_.candidates.values()]
        influence = np.array(shares(round_.operator, parts)) * norms
        most = max(self.share, 1 / max(1, int(np.count_nonzero(influence))))
        capped = _water_fill(influence, most)
        factors = np.divide(capped, influence, out=np.ones_like(influence), where=influence > 0)
        lowered = zip(round_.candidates, parts, factors, strict=True)
        return ScreeningResult(weights={name: part.weight * float(f) for name, part, f in lowered if f < 1})


def _water_fill(influence: np.ndarray, most: float) -> np.ndarray:
    """Lower the largest until none has more than its share of the new whole."""
    order = np.argsort(-influence)
    ordered = influence[order]
    for capped in range(len(ordered)):
        rest = ordered[capped:].sum()
        # `capped` contributors with the share `most` each, and the rest as they are, make the whole.
        level = most * rest / (1 - capped * most) if capped * most < 1 else ordered[-1]
        if ordered[capped] <= level * (1 + 1e-12):
            break
    else:
        level = ordered[-1]
    result = influence.copy()
    result[order] = np.minimum(ordered, level)
    return result


@dataclass(frozen=True)
class Block(Rule):
    """A block list: these contributors are not sampled, and what they send all the same is rejected.

    Attributes:
        names: contributors.
    """

    name: ClassVar[str] = "block"
    names: tuple[str, ...] = setting(())

    def __call__(self, round_: Round) -> ScreeningResult:
        """See `Rule`."""
        return ScreeningResult({name: "it is on the block list" for name in round_.candidates if name in self.names})

    @property
    def blocked(self) -> tuple[str, ...]:
        """See `Rule`."""
        return self.names


RULES: dict[str, type[Rule]] = {rule.name: rule for rule in (Size, Direction, GreedySoup, InfluenceCap, Block)}


def screen(round_: Round, rules: Sequence[Rule]) -> tuple[Round, dict[str, tuple[Rule, str]]]:
    """Let rules judge a round, one after another.

    Returns:
        The round as it may be fused, and for the others the rule that rejected them and its reason, by name.
    """
    rejected: dict[str, tuple[Rule, str]] = {}
    for rule in rules:
        if not round_.candidates:
            break
        verdict = rule(round_)
        rejected |= {name: (rule, reason) for name, reason in verdict.rejected.items()}
        round_ = round_.without(verdict.rejected)
        for name, weight in verdict.weights.items():
            candidate = round_.candidates[name]
            lighter = replace(candidate.contribution, weight=weight)
            round_.candidates[name] = replace(candidate, contribution=lighter)
    return round_, rejected
