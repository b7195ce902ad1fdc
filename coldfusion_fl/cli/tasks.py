"""`coldfusion tasks`: list the available tasks, and what was read of their files."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from coldfusion_fl.cli.app import Catalogues, DataRoot, app, console, print_error, print_line
from coldfusion_fl.config.tables import split_names
from coldfusion_fl.data.catalogue import SHIPPED, SPLITS, Catalogue, read_catalogues
from coldfusion_fl.errors import ColdFusionError, ErrorCode, SettingsError
from coldfusion_fl.sanitize import sanitize

if TYPE_CHECKING:
    from coldfusion_fl.data.task import Task

_FAILED = 2
_SHOWN_CLASSES = 200


@app.command()
def tasks(
    names: Annotated[str, typer.Argument(help="Only these tasks, separated by commas, with their classes.")] = "",
    catalogue: Catalogues = "packaged",
    data_root: DataRoot = "",
) -> None:
    """List tasks with their sizes and classes, and the score of always predicting the most frequent class.

    Below the list: the rows that are left out, what the files decided, and warnings. The exit code is 2 if one of the
    named tasks, or each task of the catalogue, cannot be read.
    """
    catalogues = split_names(catalogue)
    if not catalogues:
        raise SettingsError(
            f"--catalogue names no catalogue. Shipped are: {', '.join(SHIPPED)}.", code=ErrorCode.SETTING_MISSING
        )
    found = read_catalogues(catalogues, data_root)
    named = tuple(dict.fromkeys(split_names(names)))
    read, errors = _read_all(named or tuple(found.specs), catalogues, data_root)
    console.print(_sizes(read, found, f"Tasks of {catalogue}"))
    for task in read.values():
        if task:
            _print_report(task, is_named=bool(named))
    for message in errors:
        print_error(message)
    if errors and (named or len(errors) == len(read)):
        sys.exit(_FAILED)


def _read_all(
    names: tuple[str, ...], catalogues: tuple[str, ...], data_root: str
) -> "tuple[dict[str, Task | None], list[str]]":
    """The tasks by name, None for one that cannot be read, and the errors: one broken task must not hide the others."""
    from coldfusion_fl.data.task import load_task  # pandas too, which takes a second

    read: dict[str, Task | None] = {}
    errors = []
    with console.status("") as status:
        for name in names:
            status.update(Text(f"Reading {name}"))
            try:
                read[name] = load_task(name, catalogues, data_root)
            except ColdFusionError as error:
                read[name] = None
                errors.append(str(error))
    return read, errors


def _sizes(read: "dict[str, Task | None]", found: Catalogue, title: str) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for column in ("task", "metric", "classes", "train", "validation", "test", "baseline"):
        table.add_column(column, justify="left" if column in ("task", "metric") else "right")
    for name, task in read.items():
        if task is None:
            metric = found.specs[name].metric if name in found.specs else "-"
            table.add_row(escape(name), metric, *["-"] * 5)
            continue
        sizes = (str(len(part)) for part in (task.train, task.validation, task.test))
        classes = str(len(task.classes)) if task.classes else "number"
        table.add_row(escape(name), task.metric, classes, *sizes, f"{task.baseline():.1f}")
    return table


def _print_report(task: "Task", *, is_named: bool) -> None:
    """What was read; of a task that was not named, only what a person may want to change."""
    lines = task.report.lines(brief=not is_named)
    if lines:
        console.print(f"\n{task.name}", markup=False)
    for line in lines:
        print_line(f"  {line}")
    if is_named:
        console.print(_class_counts(task) if task.classes else _range_of_numbers(task))


def _class_counts(task: "Task") -> Table:
    table = Table()
    table.add_column("class")
    for split in SPLITS:
        table.add_column(split, justify="right")
    counts = task.class_counts()
    for name, numbers in list(counts.items())[:_SHOWN_CLASSES]:
        table.add_row(Text(sanitize(name)), *map(str, numbers))
    if len(counts) > _SHOWN_CLASSES:
        table.add_row(f"and {len(counts) - _SHOWN_CLASSES} more", *["..."] * len(SPLITS))
    return table


def _range_of_numbers(task: "Task") -> Text:
    labels = task.train.labels
    return Text(f"  labels of train: {labels.min():g} to {labels.max():g}, mean {labels.mean():g}")
