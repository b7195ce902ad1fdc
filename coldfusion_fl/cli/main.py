"""The command line `coldfusion`."""

import sys
from importlib import metadata

import typer

# Importing a command's module adds the command to the app, in the order of `coldfusion --help`.
from coldfusion_fl.cli import log, run, settings, tasks  # noqa: F401
from coldfusion_fl.cli.app import app, print_error
from coldfusion_fl.cli.init import command  # noqa: F401
from coldfusion_fl.cli.models import compare, evaluate, finetune, fuse, predict, push  # noqa: F401
from coldfusion_fl.errors import ColdFusionError
from coldfusion_fl.extras import missing_extra


def main() -> None:
    """Run the command line; an error of this package becomes one message and an exit code."""
    try:
        app(standalone_mode=True)
    except (ColdFusionError, ModuleNotFoundError) as failure:
        error = failure if isinstance(failure, ColdFusionError) else missing_extra(failure, "this command")
        if error is None:
            raise
        print_error(str(error))
        sys.exit(error.exit_code)


# Packages beside the core, such as the engines and the experiments, register their commands as entry points.
for _entry in metadata.entry_points(group="coldfusion.commands"):
    _command = _entry.load()
    if isinstance(_command, typer.Typer):
        app.add_typer(_command, name=_entry.name)
    else:
        app.command(name=_entry.name)(_command)
