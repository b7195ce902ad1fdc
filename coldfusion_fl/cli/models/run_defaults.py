"""What a run folder says about its model: commands on the model use its settings and its tasks by default."""

from collections.abc import Sequence
from pathlib import Path

from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.config.settings import Settings, TaskSettings
from coldfusion_fl.config.tables import join_names
from coldfusion_fl.runs.ledger import Ledger

_DEFAULT = TaskSettings()


def settings_of_run(model: str) -> Settings | None:
    """The settings of the run whose folder this is; None: it is no run folder, or the run has no tasks."""
    folder = Path(model).expanduser()
    if not _is_run(folder):
        return None
    settings = Ledger(folder).settings
    return parse_settings(settings, str(folder)) if settings.get("tasks", {}).get("seen") else None


def tasks_of_run(settings: Settings | None, catalogue: str, data_root: str) -> tuple[str, str]:
    """The catalogues and the data root to use: those given, or the run's where the defaults were given."""
    if settings is None or catalogue != join_names(_DEFAULT.catalogue):
        return catalogue, data_root
    return join_names(settings.tasks.catalogue), data_root or settings.tasks.data_root


def first_run(models: Sequence[str]) -> str:
    """The first model that is a run folder; where there is none, the first model."""
    return next((model for model in models if _is_run(Path(model).expanduser())), models[0])


def _is_run(folder: Path) -> bool:
    return (folder / "run.json").is_file()
