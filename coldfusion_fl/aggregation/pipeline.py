"""What a server does with contributions, checked as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coldfusion_fl.aggregation.screening import RULES, Block, InfluenceCap, Rule
from coldfusion_fl.aggregation.server_optimizer import SERVER_OPTIMIZERS, ServerOptimizer
from coldfusion_fl.config.components import as_component, as_components
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.errors import SettingsError
from coldfusion_fl.fusion import OPERATORS, Operator, PrivateMean


@dataclass(frozen=True)
class Pipeline:
    """What a server does with contributions.

    Attributes:
        screening: the rules that contributions must pass, in this order.
        fusion: makes one encoder of those that pass.
        server_optimizer: makes the next base of the base and the fused encoder.
    """

    screening: tuple[Rule, ...]
    fusion: Operator
    server_optimizer: ServerOptimizer

    def texts(self) -> dict[str, Any]:
        """The texts that the pipeline can be made of again, by setting."""
        return {
            "screening": [str(rule) for rule in self.screening],
            "fusion": str(self.fusion),
            "server_optimizer": str(self.server_optimizer),
        }


def parse_pipeline(
    fusion: str | Operator, server_optimizer: str | ServerOptimizer, screening: str | Sequence[str | Rule]
) -> Pipeline:
    """The operator, the step and the rules of their texts.

    Raises:
        SettingsError: one is unknown (the known ones are listed), or a parameter is unknown or out of range.
    """
    return Pipeline(
        as_components(screening, RULES, "screening"),
        as_component(fusion, OPERATORS, "fusion"),
        as_component(server_optimizer, SERVER_OPTIMIZERS, "server-optimizer"),
    )


def check_pipeline(
    pipeline: Pipeline,
    contributors_per_round: int,
    min_contributions: int,
    *,
    has_score_function: bool,
    has_rollback: bool,
) -> None:
    """Check that the parts go together.

    Raises:
        SettingsError: two of them contradict each other.
    """
    fusion, rules = pipeline.fusion, pipeline.screening
    if not 1 <= min_contributions <= contributors_per_round:
        raise SettingsError(
            f"min-contributions is {min_contributions}, and contributors-per-round is {contributors_per_round}: no "
            f"round could ever fuse. Take 1 to {contributors_per_round}."
        )
    exactly = fusion.exactly
    if exactly and not exactly == contributors_per_round == min_contributions:
        raise SettingsError(
            f"{fusion.name} fuses exactly {exactly} contributions: set contributors-per-round and min-contributions to "
            f"{exactly}."
        )
    needing = [rule.name for rule in rules if rule.needs_score_function] + (["rollback"] if has_rollback else [])
    if needing and not has_score_function:
        raise SettingsError(f"{' and '.join(needing)}: this needs a probe, a held-out score of the server's own.")
    if not fusion.weighs and any(isinstance(rule, InfluenceCap) for rule in rules):
        raise SettingsError(f"influence-cap lowers weights, but {fusion.name} heeds none. Leave one of them out.")
    if isinstance(fusion, PrivateMean) and (looking := [rule.name for rule in rules if not isinstance(rule, Block)]):
        raise SettingsError(
            f"{' and '.join(looking)}: whom this rejects depends on what all have sent. {fusion.name} is to hide it: "
            "leave the screening out; what is too long is clipped."
        )


def check_server_settings(settings: Settings) -> None:
    """Check the server's part of a run's settings.

    Raises:
        SettingsError: as `parse_pipeline` and `check_pipeline`.
    """
    server = settings.server
    if server.blend < 1 and not server.ema:
        raise SettingsError("blend is of the moving average of the bases: set ema too, such as 0.7.")
    check_pipeline(
        parse_pipeline(server.fusion, server.server_optimizer, server.screening),
        settings.contributors_per_round,
        settings.min_contributions,
        has_score_function=bool(server.server_validation),
        has_rollback=bool(server.rollback),
    )
