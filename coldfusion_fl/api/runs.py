"""Start a run: a federation of tasks, simulated on this machine."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldfusion_fl.api.executing import Log, execute, require_simulation
from coldfusion_fl.api.inputs import Catalogue, Model, TaskLike, absolute, as_catalogues, as_reference, table_of
from coldfusion_fl.api.run_folder import Run
from coldfusion_fl.config.own_catalogue import TASKS
from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.data.catalogue import SHIPPED
from coldfusion_fl.data.memory.task_files import (
    CATALOGUE,
    check_task_files,
    format_task_files,
    remove_task_files,
    write_task_files,
)
from coldfusion_fl.data.task import Task
from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.execution.run_paths import new_run_folder
from coldfusion_fl.extras import EXTRAS, require
from coldfusion_fl.preflight.settings_check import check_settings
from coldfusion_fl.runs.integrity.problems import find_problems
from coldfusion_fl.runs.ledger import Ledger, ensure_free

_SOURCE = "run()"


def run(
    seen: Iterable[TaskLike],
    *,
    base: Model,
    unseen: Iterable[TaskLike] = (),
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    catalogue: Catalogue = "packaged",
    data_root: str | os.PathLike[str] = "",
    progress: Log = print,
    **settings: Any,
) -> Run:
    """Run ColD Fusion: a federation of tasks, simulated on this machine. It returns when the run has ended.

    Each task is a contributor. In each round, contributors finetune the base on their own tasks, and the fused encoder
    is the next base. This is what `coldfusion run` does, with the same settings, checks and run folder.

    Contributors are processes, which read their tasks from files. A task that is given by its name is read where its
    catalogue says. The rows of a `Task` object are written into the run folder, `tasks/`, which other users of the
    machine cannot read. So the run can be resumed from its folder alone, by `Run.resume` and by `coldfusion run
    --resume`, also where the folder was moved to. Who gets the run folder gets these rows; `model/` has none of them.

    Everything is checked before the run starts. If a check fails, nothing is left in `out`.

    Args:
        seen: the tasks that contribute: `Task` objects, or names of tasks in the catalogue.
        base: the pretrained encoder; see `load_base`.
        unseen: tasks that are used for evaluation only.
        out: the run folder; it must not exist or be empty. None: a new folder in `runs/`.
        resume: continue the run in `out` after its last complete round; a run that is complete is returned at once. If
            there is none, it starts.
        catalogue: see `load_task`; for tasks that are given by their names.
        data_root: see `load_task`.
        progress: called with each line about the progress; None: nothing is printed.
        **settings: all settings of a run, such as `rounds=2`, `preset="recommended"` or `seed=1`. A table is a dict or
            an object: `finetune={"epochs": 1}`, `server={"fusion": "mean"}`, `evaluate=EvaluateSettings(every=0)`.
            `coldfusion settings` lists all. `contributors_per_round` is the number of seen tasks by default, at most 8.

    Raises:
        SettingsError: a setting is unknown or wrong, an extra is not installed, or two tasks have the same name.
        RunFolderError: the folder is not empty, or holds a run with other settings or rows.
        RunError: the run started and failed. It can be resumed.
        ColdFusionError: the base or a task cannot be loaded, or they do not fit each other.
    """
    require("run()", *EXTRAS["models"], *EXTRAS["simulation"])
    folder = absolute(new_run_folder("run") if out is None else out)
    tasks = _Tasks(_as_list(seen), _as_list(unseen))
    wanted = _settings(tasks, base, folder, as_catalogues(catalogue), data_root, settings)
    files = format_task_files(tasks.in_memory) if tasks.in_memory else {}
    if resume and (folder / "run.json").exists():
        check_task_files(folder / TASKS, files)
        return continue_run(wanted, _SOURCE, progress)
    ensure_free(folder, (TASKS,))
    remove_task_files(folder / TASKS)  # there is no run, so they are of a start that was killed
    ensure_free(folder)
    is_new = not folder.exists()
    try:
        if files:
            write_task_files(folder / TASKS, files)
        check_settings(wanted, _SOURCE)
        execute(wanted, _SOURCE, progress)
    finally:
        if files and not (folder / "run.json").exists():
            remove_task_files(folder / TASKS, with_parent=is_new)
    return Run(folder)


def continue_run(settings: Settings, source: str, progress: Log) -> Run:
    """Resume the run in the folder `settings.out`, if it is not complete.

    Raises:
        ColdFusionError: as `execute`; or the run had other settings.
    """
    folder = Path(settings.out)
    ledger = Ledger.reopen(folder, to_table(settings))
    require_simulation(ledger)
    if progress:
        for problem in find_problems(ledger):
            progress(problem)
    if not ledger.is_complete(settings.rounds):
        check_settings(settings, source)
        execute(settings, source, progress)
    return Run(folder)


@dataclass(frozen=True)
class _Tasks:
    """The tasks of a run: objects and names.

    Attributes:
        seen: those that contribute.
        unseen: those for evaluation only.
    """

    seen: list[TaskLike]
    unseen: list[TaskLike]

    @property
    def in_memory(self) -> list[Task]:
        """The objects."""
        return [task for task in (*self.seen, *self.unseen) if isinstance(task, Task)]


def _as_list(tasks: Iterable[TaskLike]) -> list[TaskLike]:
    listed: list[TaskLike] = [tasks] if isinstance(tasks, str | Task) else list(tasks)
    if wrong := [task for task in listed if not isinstance(task, str | Task)]:
        raise SettingsError(f"a task is a Task or the name of one, but this is a {type(wrong[0]).__name__}.")
    return listed


def _names(tasks: Iterable[TaskLike]) -> list[str]:
    return [task if isinstance(task, str) else task.name for task in tasks]


def _settings(
    tasks: _Tasks,
    base: Model,
    folder: Path,
    catalogues: Sequence[str],
    data_root: str | os.PathLike[str],
    given: dict[str, Any],
) -> Settings:
    """The settings of the run, as those of a file with absolute paths."""
    if "tasks" in given:
        raise SettingsError(f"{_SOURCE}: give the tasks as 'seen' and 'unseen', not as a table.")
    root = os.fspath(data_root)
    if root and tasks.in_memory:
        raise SettingsError(
            f"{_SOURCE}: 'data_root' is for tasks that are given by their names. Read them with load_task(name, "
            "catalogue, data_root), and give all tasks as objects.",
            ErrorCode.SETTINGS_CONFLICT,
        )
    own = [str(folder / TASKS / CATALOGUE)] if tasks.in_memory else []
    reference = as_reference(base)
    table = {
        "contributors-per-round": max(1, min(8, len(tasks.seen))),
        **table_of(given),
        "base": str(absolute(reference)) if absolute(reference).is_dir() else reference,
        "out": str(folder),
        "tasks": {
            "catalogue": [*(one if one in SHIPPED else str(absolute(one)) for one in catalogues), *own],
            "data-root": str(absolute(root)) if root else "",
            "seen": _names(tasks.seen),
            "unseen": _names(tasks.unseen),
        },
    }
    return parse_settings(table, _SOURCE)
