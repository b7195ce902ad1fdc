"""The command line with the commands of all packages, for mkdocs-click."""

import typer

from coldfusion_fl.cli.main import app

coldfusion = typer.main.get_command(app)
