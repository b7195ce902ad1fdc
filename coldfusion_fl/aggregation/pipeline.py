"""The pipeline of the server: screening, then a fusion operator, then a server optimizer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from coldfusion_fl.aggregation.rules import RULES
from coldfusion_fl.aggregation.screening import Candidate, Rule, ScoreFunction, ScreeningRound, screen
from coldfusion_fl.aggregation.server_optimizer import SERVER_OPTIMIZERS, ServerOptimizer
from coldfusion_fl.arrays.blocks import finite
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.arrays.running_statistics import without_statistics
from coldfusion_fl.config.components import as_component, as_components
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.errors import ErrorCode, FusionError, SettingsError
from coldfusion_fl.fusion import OPERATORS, Contribution, Operator, WeightedMean


@dataclass(frozen=True)
class Screened:
    """What the screening found.

    Attributes:
        cosines: by contributor, before the screening: the cosine between its update and the mean direction of the
            others; None if it is undefined.
        contributions: those that passed, in sorted order of names.
        rejected: by contributor that did not pass: the rule that rejected it, and its reason as a clause.
    """

    cosines: Mapping[str, float | None]
    contributions: Sequence[Contribution]
    rejected: Mapping[str, tuple[Rule, str]]


@dataclass(frozen=True)
class Pipeline:
    """What happens with the contributions of a round, in this order.

    Attributes:
        screening: the rules that reject contributions, applied one after another.
        fusion: the operator that fuses the accepted contributions.
        server_optimizer: the optimizer that makes the next base of the base and the fused encoder.
    """

    screening: tuple[Rule, ...]
    fusion: Operator
    server_optimizer: ServerOptimizer

    @classmethod
    def parse(
        cls,
        screening: str | Sequence[str | Rule],
        fusion: str | Operator,
        server_optimizer: str | ServerOptimizer,
    ) -> Self:
        """Make a pipeline of components or their texts.

        Raises:
            SettingsError: a component or a parameter is unknown (the known ones are listed), or out of range.
        """
        return cls(
            screening=as_components(screening, RULES, "screening"),
            fusion=as_component(fusion, OPERATORS, "fusion"),
            server_optimizer=as_component(server_optimizer, SERVER_OPTIMIZERS, "server-optimizer"),
        )

    def weighted_by(self, key: str) -> Self:
        """The same pipeline, where a `weighted-mean` without an own `by` takes the weight from this metric."""
        if not isinstance(self.fusion, WeightedMean) or "by" in self.fusion.model_fields_set:
            return self
        return replace(self, fusion=self.fusion.model_copy(update={"by": key}))

    def screen(
        self, base: Encoder, candidates: Mapping[str, Candidate], score_fn: ScoreFunction | None = None
    ) -> Screened:
        """Limit the weights that contributors report, and apply the screening rules.

        Args:
            base: θ, the arrays that the contributors started from.
            candidates: by contributor.
            score_fn: the server's own score of an encoder, higher is better; None: the server has none.
        """
        limited = self.fusion.limit_weights([candidate.contribution for candidate in candidates.values()])
        candidates = {
            name: replace(candidate, contribution=contribution)
            for (name, candidate), contribution in zip(candidates.items(), limited, strict=True)
        }
        round_ = ScreeningRound(base, candidates, self.fusion, score_fn)
        cosines = round_.cosines
        passed, rejected = screen(round_, self.screening)
        # In sorted order of names, so that the order of arrival leaves no trace in the sum.
        contributions = [candidate.contribution for _, candidate in sorted(passed.candidates.items())]
        return Screened(cosines, contributions, rejected)

    def optimize(self, base: Encoder, fused: Encoder, state: EncoderDict) -> tuple[EncoderDict, EncoderDict]:
        """Apply the server optimizer.

        Args:
            base: θ, the arrays that the contributors started from.
            fused: θ_fused, in the same names, shapes and dtypes.
            state: the optimizer's state; empty at first.

        Returns:
            The next base, and the new state.

        Raises:
            FusionError: a value of the result or of the state is not finite.
        """
        # Running statistics are averaged: a step with momentum could bring a variance below zero.
        weights = without_statistics(base)
        with np.errstate(over="ignore", invalid="ignore"):
            stepped, new_state = self.server_optimizer(weights, {name: fused[name] for name in weights}, state)
        next_base = {name: stepped.get(name, fused[name]) for name in base}
        for name, array in [*next_base.items(), *new_state.items()]:
            if not finite(array):  # a state that is not finite would spoil every later base
                raise FusionError(
                    f"the server optimizer '{self.server_optimizer}' gave values that are not finite in '{name}'."
                )
        return next_base, new_state

    def check(
        self, contributors_per_round: int, min_contributions: int, *, has_score_function: bool, has_rollback: bool
    ) -> None:
        """Check that the components work together, and with a run's settings.

        Args:
            contributors_per_round: contributors sampled in each round.
            min_contributions: a round with fewer valid contributions keeps its base.
            has_score_function: whether the server has its own score of an encoder.
            has_rollback: whether a lower score of the next base keeps the old one.

        Raises:
            SettingsError: two settings contradict each other.
        """
        if not 1 <= min_contributions <= contributors_per_round:
            raise _conflict(
                f"min-contributions is {min_contributions}, and contributors-per-round is {contributors_per_round}, so "
                f"no round could ever fuse. Lower min-contributions to {contributors_per_round} or less."
            )
        needing = [rule.name for rule in self.screening if rule.needs_score_function]
        needing += ["rollback"] if has_rollback else []
        if needing and not has_score_function:
            raise _conflict(
                f"{' and '.join(needing)} needs a score of the server's own: set server-validation to a task, or the "
                "strategy's argument score_fn."
            )
        changing = [rule.name for rule in self.screening if rule.changes_weights]
        if changing and not self.fusion.uses_weights:
            raise _conflict(
                f"{' and '.join(changing)} changes weights, but the fusion {self.fusion.name} ignores them. "
                "Remove one of them."
            )
        if self.screening and not self.fusion.allows_screening:
            names = " and ".join(rule.name for rule in self.screening)
            raise _conflict(
                f"screening by {names} depends on what all contributors have sent, which the fusion {self.fusion.name} "
                "must hide. Remove the screening; updates that are too long are clipped anyway."
            )


def check_server_settings(settings: Settings) -> None:
    """Check the table `server` of a run's settings.

    Raises:
        SettingsError: as `Pipeline.parse` and `Pipeline.check`.
    """
    server = settings.server
    check_blend(server.ema, server.blend)
    Pipeline.parse(server.screening, server.fusion, server.server_optimizer).check(
        settings.contributors_per_round,
        settings.min_contributions,
        has_score_function=bool(server.server_validation),
        has_rollback=bool(server.rollback),
    )


def check_blend(ema: float, blend: float) -> None:
    """Check that there is a moving average to blend with the first base.

    Raises:
        SettingsError: there is none.
    """
    if blend < 1 and not ema:
        raise _conflict("blend needs the moving average of the bases: set ema too, such as 0.7.")


def _conflict(message: str) -> SettingsError:
    return SettingsError(message, ErrorCode.SETTINGS_CONFLICT)
