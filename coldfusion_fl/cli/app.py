"""The Typer app that all commands belong to, and the options that several of them have."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from coldfusion_fl.data.catalogue import SHIPPED
from coldfusion_fl.execution.display import plain_console
from coldfusion_fl.sanitize import sanitize
from coldfusion_fl.versions import format_versions

app = typer.Typer(
    name="coldfusion",
    help="ColD Fusion on Flower: many parties improve one pretrained language model together without sharing data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = plain_console()

MODEL_HELP = (
    "A model folder, a run folder (its model), a Hub id, also with @REVISION, or package:PATH in an installed package."
)
Catalogues = Annotated[
    str,
    typer.Option(
        "--catalogue",
        help=f"Shipped catalogues ({', '.join(SHIPPED)}) or TOML files, separated by commas.",
    ),
]
DataRoot = Annotated[
    str,
    typer.Option(
        "--data-root", help="The folder that relative paths in the catalogue start from. Default: the catalogue's."
    ),
]


def program() -> str:
    """The name of this command for a command line to copy: with its path where the shell would not find it."""
    called = Path(sys.argv[0])
    if shutil.which("coldfusion") or called.name != "coldfusion":
        return "coldfusion"
    return str(called.relative_to(Path.cwd()) if called.is_relative_to(Path.cwd()) else called)


def print_line(line: str) -> None:
    """Print a line of text, wrapped between words in a terminal. A file has it as one line."""
    console.print(sanitize(line), markup=False, soft_wrap=not console.is_terminal)


def print_error(message: str) -> None:
    """Print an error message to stderr. Names of files in it may be another party's."""
    lines = "\n".join(map(sanitize, message.split("\n")))
    print(f"coldfusion: {lines}", file=sys.stderr)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.print(format_versions(), markup=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_show_version,
            is_eager=True,
            help="Show the versions that must be equal on the server and on all members.",
        ),
    ] = False,
) -> None:
    pass
