"""What the commands that score models share: their options, and the checks before the first score."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from coldfusion_fl.api.run_defaults import settings_of_run, tasks_of_run
from coldfusion_fl.cli.app import console, print_line
from coldfusion_fl.config.parsing import read_scoring_settings
from coldfusion_fl.config.scoring import Schedule, make_schedule
from coldfusion_fl.config.tables import split_names
from coldfusion_fl.data.catalogue import Catalogue, TaskSpec, read_catalogues
from coldfusion_fl.data.paths import PACKAGE
from coldfusion_fl.errors import CatalogueError, ErrorCode, SettingsError

if TYPE_CHECKING:
    from coldfusion_fl.arrays.encoder import Encoder
    from coldfusion_fl.data.task import Task
    from coldfusion_fl.model.base import Base

TaskNames = Annotated[str, typer.Option("--tasks", help="Names of tasks, separated by commas.")]
Mode = Annotated[str, typer.Option("--mode", help="finetuned, frozen (a linear probe) or few-shot.")]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", help="Use the tables finetune and evaluate of this settings file (TOML). Default: those of a run."
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        help="Random seed of the sampled rows, the heads and the training. Default: that of --config, of a run, or 0.",
        min=0,
    ),
]


@dataclass(frozen=True)
class Scoring(Schedule):
    """What is scored, and how.

    Attributes:
        tasks: the names of the tasks, each once.
        catalogues: where they are defined.
        data_root: where the catalogues' relative paths start from.
    """

    tasks: tuple[str, ...]
    catalogues: tuple[str, ...]
    data_root: str


def read_scoring(
    model: str,
    tasks: str,
    mode: str,
    catalogue: str,
    data_root: str,
    config: Path | None,
    seed: int | None,
    head: str | None,
) -> Scoring:
    """Check the options and make a `Scoring` of them, without loading torch, which takes seconds.

    If the model is a run folder, the run's settings and tasks are the defaults.

    Raises:
        SettingsError: an option or the settings file is wrong, or a task is named twice.
        CatalogueError: a catalogue cannot be read, or has no such task.
    """
    of_run = settings_of_run(model)
    catalogues, data_root = tasks_of_run(of_run, split_names(catalogue), data_root)
    names = split_names(tasks)
    if not names:
        raise SettingsError(
            "--tasks is empty. List the available tasks with `coldfusion tasks`.", code=ErrorCode.SETTING_MISSING
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(f"--tasks names {', '.join(twice)} twice. Name each task once.")
    known = read_catalogues(catalogues, data_root)
    for name in names:
        find_task(known, name, model)
    settings = read_scoring_settings(config) if config else of_run
    changes = {"head": head} if head else {}
    label = "--head" if head else str(config or model)
    schedule = make_schedule(settings, mode, seed, changes, {}, ("--mode", label))
    return Scoring(**vars(schedule), tasks=names, catalogues=catalogues, data_root=data_root)


def find_task(known: Catalogue, name: str, model: str) -> TaskSpec:
    """A task by its name.

    Raises:
        CatalogueError: there is none; the message says so too if the model is no folder here, because a run folder that
            is misspelt has no catalogue.
    """
    try:
        return known[name]
    except CatalogueError as error:
        is_here = model.startswith(PACKAGE) or Path(model).expanduser().exists()
        missing = (
            "" if is_here else f" There is no folder {model} either: of a run folder, the catalogue is the default."
        )
        advice = "Name your own catalogue with --catalogue FILE."
        raise CatalogueError(f"{error} {advice}{missing}", code=error.code) from None


def read_tasks(scoring: Scoring) -> "list[Task]":
    """Read all tasks, and print what was left out or guessed.

    Raises:
        DataError: the rows of a task cannot be read, or are not a valid task.
    """
    from coldfusion_fl.data.task import load_task

    read = []
    with console.status("") as status:
        for name in scoring.tasks:
            status.update(Text(f"Reading {name}"))
            read.append(load_task(name, scoring.catalogues, scoring.data_root))
            print_notes(name, read[-1].report.lines(brief=True))
    return read


def check_tasks(base: "Base", encoder: "Encoder", scoring: Scoring, tasks: "Sequence[Task]") -> None:
    """Check all tasks with a model before the first score, which may take long; print what may be wrong.

    Raises:
        ColdFusionError: as `TaskChecker.check`.
    """
    from coldfusion_fl.preflight.task_check import TaskChecker

    with console.status("") as status:
        checker = TaskChecker(base, encoder, scoring.finetuning, trains=scoring.mode != "frozen")
        for task in tasks:
            status.update(Text(f"Checking {base.reference} on {task.name}"))
            print_notes(task.name, checker.check(task).notes)


def print_notes(subject: str, notes: Iterable[str]) -> None:
    """Print sentences about a model or a task, which may contain texts of other parties."""
    for note in notes:
        print_line(f"{subject}: {note}")
