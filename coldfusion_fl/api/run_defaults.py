"""What a run folder says about its model: its settings and tasks are the defaults of what is done with the model."""

from collections.abc import Sequence
from pathlib import Path

from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.config.settings import FinetuneSettings, Settings, TaskSettings
from coldfusion_fl.runs.ledger import Ledger

_DEFAULT = TaskSettings()


def settings_of_run(model: str) -> Settings | None:
    """The settings of the run whose folder this is; None: it is no run folder, or the run has no tasks."""
    folder = Path(model).expanduser()
    if not is_run(folder):
        return None
    settings = Ledger(folder).settings
    return parse_settings(settings, str(folder)) if settings.get("tasks", {}).get("seen") else None


def tasks_of_run(settings: Settings | None, catalogues: tuple[str, ...], data_root: str) -> tuple[tuple[str, ...], str]:
    """The catalogues and the data root to use: those given, or the run's where the defaults were given."""
    if settings is None or catalogues != _DEFAULT.catalogue:
        return catalogues, data_root
    return settings.tasks.catalogue, data_root or settings.tasks.data_root


def classifier_defaults(of_run: Settings | None) -> FinetuneSettings:
    """The default schedule of a classifier: a run's, or the usual one; with all rows of train.

    In a run, `examples` is the size of a contribution.
    """
    return (of_run.finetune if of_run else FinetuneSettings()).model_copy(update={"examples": 0})


def first_run(models: Sequence[str]) -> str:
    """The first model that is a run folder; where there is none, the first model."""
    return next((model for model in models if is_run(Path(model).expanduser())), models[0])


def is_run(folder: Path) -> bool:
    """Whether this is a run folder."""
    return (folder / "run.json").is_file()
