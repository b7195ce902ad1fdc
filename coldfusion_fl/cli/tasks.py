"""`coldfusion tasks`: list the available tasks."""

import sys
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from coldfusion_fl.cli.app import Catalogues, DataRoot, app, console, print_error
from coldfusion_fl.config.tables import split_names
from coldfusion_fl.data.catalogue import SHIPPED, read_catalogues
from coldfusion_fl.errors import ColdFusionError, ErrorCode, SettingsError

_ALL_FAILED = 2


@app.command()
def tasks(
    names: Annotated[str, typer.Argument(help="Only these tasks, separated by commas.")] = "",
    catalogue: Catalogues = "packaged",
    data_root: DataRoot = "",
) -> None:
    """List tasks with their sizes and classes, and the score of always predicting the most frequent class."""
    from coldfusion_fl.data.task import load_task

    catalogues = split_names(catalogue)
    if not catalogues:
        raise SettingsError(
            f"--catalogue names no catalogue. Shipped are: {', '.join(SHIPPED)}.", code=ErrorCode.SETTING_MISSING
        )
    found = read_catalogues(catalogues, data_root)
    table = Table(title=escape(f"Tasks of {catalogue}"), title_justify="left")
    for column in ("task", "metric", "classes", "train", "validation", "test", "baseline"):
        table.add_column(column, justify="left" if column in ("task", "metric") else "right")
    errors = []
    wanted = split_names(names) or tuple(found.specs)
    with console.status("") as status:
        for name in wanted:
            status.update(Text(f"Reading {name}"))
            spec = found[name]
            try:
                task = load_task(name, catalogues, data_root)
            except ColdFusionError as error:
                if names:
                    raise
                # In a listing of everything, one task whose data is not on this machine must not hide the others.
                errors.append(str(error))
                table.add_row(escape(name), spec.metric, *["-"] * 5)
                continue
            sizes = (str(len(part)) for part in (task.train, task.validation, task.test))
            classes = str(len(task.classes)) if task.classes else "number"
            table.add_row(escape(name), task.metric, classes, *sizes, f"{task.baseline():.1f}")
    console.print(table)
    for message in errors:
        print_error(message)
    if len(errors) == len(wanted):
        sys.exit(_ALL_FAILED)
