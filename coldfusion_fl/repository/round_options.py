"""The settings of a round of checkpoints: the run's, and what a person gives in their place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldfusion_fl.config.parsing import parse_table
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import dashed, merged, to_table
from coldfusion_fl.data.catalogue import resolve_catalogues
from coldfusion_fl.data.paths import resolve_from
from coldfusion_fl.errors import SettingsError

# What only a run whose contributors train has.
_OF_TRAINING = (
    "out", "resume", "rounds", "contributors-per-round", "round-timeout", "node-timeout", "simulation", "tracking",
)  # fmt: skip


@dataclass(frozen=True)
class RoundOptions:
    """What a person gives in place of the settings of a run; None: as the run has it.

    Attributes:
        fusion: as the setting `server.fusion`.
        server_optimizer: as the setting `server.server-optimizer`.
        screening: as the setting `server.screening`.
        server_validation: as the setting `server.server-validation`.
        rollback: as the setting `server.rollback`.
        min_contributions: as the setting `min-contributions`; a new run has 1.
        catalogue: as the setting `tasks.catalogue`.
        data_root: as the setting `tasks.data-root`.
        weights: a relative weight for each checkpoint, in the same order; empty: all are equal.
    """

    fusion: str | None = None
    server_optimizer: str | None = None
    screening: str | None = None
    server_validation: str | None = None
    rollback: float | None = None
    min_contributions: int | None = None
    catalogue: Sequence[str] | None = None
    data_root: str | None = None
    weights: Sequence[float] = ()

    def to_table(self) -> dict[str, Any]:
        """What is given, as nested tables of settings; paths are absolute."""
        here = Path.cwd()
        server = ("fusion", "server_optimizer", "screening", "server_validation", "rollback")
        tasks = {
            "catalogue": None if self.catalogue is None else list(resolve_catalogues(here, self.catalogue)),
            "data-root": None if self.data_root is None else resolve_from(here, self.data_root),
        }
        table = {
            "min-contributions": self.min_contributions,
            "server": _given({dashed(name): getattr(self, name) for name in server}),
            "tasks": _given(tasks),
        }
        return _given(table)


def settings_of_new_run(base: str, options: RoundOptions) -> dict[str, Any]:
    """The settings of a run that begins with checkpoints, as nested tables.

    Raises:
        SettingsError: one is of another type or out of range.
    """
    folder = Path(base).expanduser()
    reference = str(folder.absolute()) if folder.is_dir() else base
    table = merged({"base": reference, "min-contributions": 1}, options.to_table())
    settings = to_table(parse_table(Settings, table, "the options"))
    return {key: value for key, value in settings.items() if key not in _OF_TRAINING}


def settings_of_round(table: Mapping[str, Any], options: RoundOptions, folder: Path) -> Settings:
    """The settings of a run with what is given in their place.

    Args:
        table: the settings of the run, as nested tables.
        options: what is given.
        folder: the run folder, for messages.

    Raises:
        SettingsError: the run has no settings of `coldfusion run`, or one is of another type or out of range.
    """
    if "base" not in table or "server" not in table:
        raise SettingsError(
            f"{folder}: another program wrote this run, and its settings do not say with which base and how its rounds "
            "are fused. Only runs of `coldfusion run` and `coldfusion fuse` can be continued with checkpoints."
        )
    return parse_table(Settings, merged(table, options.to_table()), str(folder / "run.json"), beside=("preset",))


def _given(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if value is not None}
