"""What the functions of the API take: models, tasks and settings in several forms."""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from coldfusion_fl.api.run_defaults import settings_of_run, tasks_of_run
from coldfusion_fl.checkpoints.checkpoint import LoadedBase, load_base
from coldfusion_fl.config.components import Component
from coldfusion_fl.config.parsing import parse_table
from coldfusion_fl.config.settings import EvaluateSettings, FinetuneSettings
from coldfusion_fl.config.tables import dashed, to_table
from coldfusion_fl.data.catalogue import TaskSpec, read_catalogues
from coldfusion_fl.data.task import Task, read_task
from coldfusion_fl.errors import ErrorCode, SettingsError

# A model folder, a run (its model), a Hub id, `package:PATH`, or a base that is loaded.
Model = str | os.PathLike[str] | LoadedBase
# A task, or the name of one in a catalogue.
TaskLike = Task | str
# Names of shipped catalogues, or paths of TOML files.
Catalogue = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

_log = logging.getLogger("coldfusion_fl")


def as_reference(model: Model) -> str:
    """A model as text: a folder, a Hub id, or `package:PATH`.

    Raises:
        SettingsError: it is not a model.
    """
    if isinstance(model, LoadedBase):
        return model.base.reference
    if isinstance(model, str | os.PathLike):
        return os.fspath(model)
    raise SettingsError(
        f"a model is a folder, a Hub id, a Run or what load_base returns, but this is a {type(model).__name__}."
    )


def as_loaded(model: Model) -> LoadedBase:
    """A model with its weights; what was guessed is logged.

    Raises:
        SettingsError: it is not a model.
        ModelError: it cannot be loaded.
    """
    if isinstance(model, LoadedBase):
        return model
    loaded = load_base(as_reference(model))
    log_notes("base", loaded.base.notes)
    return loaded


def as_catalogues(catalogue: Catalogue) -> tuple[str, ...]:
    """Catalogues as texts."""
    if isinstance(catalogue, str | os.PathLike):
        return (os.fspath(catalogue),)
    return tuple(os.fspath(one) for one in catalogue)


def as_tasks(
    tasks: TaskLike | Iterable[TaskLike], model: Model, catalogue: Catalogue, data_root: str | os.PathLike[str]
) -> list[Task]:
    """Tasks; those that are named are read. Where the model is a run's, its catalogues are the default.

    Raises:
        ColdFusionError: as `as_tasks_with_specs`.
    """
    return [task for task, _ in as_tasks_with_specs(tasks, model, catalogue, data_root)]


def as_tasks_with_specs(
    tasks: TaskLike | Iterable[TaskLike], model: Model, catalogue: Catalogue, data_root: str | os.PathLike[str]
) -> list[tuple[Task, TaskSpec | None]]:
    """Like `as_tasks`; each with its entry in the catalogue, or None for a `Task` object.

    A catalogue is read only if a task is named.

    Raises:
        SettingsError: there is no task, or one is named twice.
        CatalogueError: a catalogue cannot be read, or has no such task.
        DataError: the rows of a task cannot be read.
    """
    listed = [tasks] if isinstance(tasks, str | Task) else list(tasks)
    names = [task if isinstance(task, str) else task.name for task in listed]
    if not names:
        raise SettingsError("there is no task. Give a task, or the name of one.", ErrorCode.SETTING_MISSING)
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(f"the task '{twice[0]}' is named twice. Name each task once.", ErrorCode.SETTINGS_CONFLICT)
    if all(isinstance(task, Task) for task in listed):
        return [(task, None) for task in listed if isinstance(task, Task)]
    of_run = settings_of_run(as_reference(model))
    catalogues, root = tasks_of_run(of_run, as_catalogues(catalogue), os.fspath(data_root))
    known = read_catalogues(catalogues, root)
    return [(read_task(task, known), known[task]) if isinstance(task, str) else (task, None) for task in listed]


def table_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments as a table of settings: keys with dashes, and values as in TOML.

    A settings object gives the values that were set; a component, such as `Ties(density=0.2)`, its text.
    """
    return {dashed(key): _plain(value) for key, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Component):
        return str(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", by_alias=True, exclude_unset=True)
    if isinstance(value, Mapping):
        return table_of(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        plain = [_plain(one) for one in value]
        return ", ".join(plain) if any(isinstance(one, Component) for one in value) else plain
    return value


def finetune_settings(default: FinetuneSettings, given: Mapping[str, Any], source: str) -> FinetuneSettings:
    """The settings of a finetuning, in which the given ones replace the defaults.

    Raises:
        SettingsError: a setting is unknown, of another type or out of range.
    """
    return parse_table(FinetuneSettings, to_table(default) | table_of(given), source)


def split_settings(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings of the tables `finetune` and `evaluate` apart, as tables; unknown ones are with the first."""
    table, known = table_of(given), {dashed(name) for name in EvaluateSettings.model_fields}
    of_evaluate = {key: value for key, value in table.items() if key in known}
    return {key: value for key, value in table.items() if key not in known}, of_evaluate


def absolute(path: str | os.PathLike[str]) -> Path:
    """A path that does not change with the working folder; `~` is the user's folder."""
    return Path(path).expanduser().resolve()


def log_notes(subject: str, notes: Iterable[str]) -> None:
    """Log what was guessed or left out: warnings as such, other sentences as information."""
    for note in notes:
        _log.log(logging.WARNING if note.startswith("warning:") else logging.INFO, "%s: %s", subject, note)
