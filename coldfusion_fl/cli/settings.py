"""The command `coldfusion settings`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from coldfusion_fl.cli.app import app
from coldfusion_fl.config.description import format_settings
from coldfusion_fl.config.parsing import read_settings
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import flatten, to_table
from coldfusion_fl.errors import SettingsError

_NOTE = """\
The settings of a run: a TOML file for `coldfusion run`, or the run-config of a Flower app.
`preset = "NAME"` at the top of a file starts from a named recipe.
"""


@app.command()
def settings(
    json_schema: Annotated[
        bool,
        typer.Option(
            "--json-schema", help="Print the settings' JSON schema, for completion and validation in editors."
        ),
    ] = False,
    run_config: Annotated[
        Path | None,
        typer.Option(
            "--run-config",
            metavar="CONFIG",
            help="Print the settings of the TOML file CONFIG in the form of a Flower app's run-config.",
        ),
    ] = None,
) -> None:
    """List all settings of a run, with type, limits, default and a sentence each."""
    if json_schema and run_config:
        raise SettingsError("--json-schema and --run-config are two different outputs. Leave one of them out.")
    if json_schema:
        print(json.dumps(Settings.model_json_schema(), indent=1))
    elif run_config:
        print(_run_config(read_settings(run_config)), end="")
    else:
        print(f"{_NOTE}\n{format_settings(Settings)}")


def _run_config(run: Settings) -> str:
    """A run's settings as the lines of a table without sub-tables: keys have dots, and lists are texts."""
    # The texts, numbers and booleans of JSON are those of TOML.
    return "".join(f"{key} = {json.dumps(value)}\n" for key, value in flatten(to_table(run)).items())
