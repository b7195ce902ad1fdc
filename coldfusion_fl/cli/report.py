"""`coldfusion report`: the report of a run as a page."""

from pathlib import Path
from typing import Annotated

import typer

from coldfusion_fl.cli.app import app, console
from coldfusion_fl.run.ledger import Ledger


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Write report.html into a run folder: one page with scores, contributions, settings and timings.

    A run that reaches its last round has it already. The command is for a run that ended early or goes on, and for a
    folder that an earlier version wrote.
    """
    from coldfusion_fl.pages.run_page import NAME, write_run_page

    write_run_page(Ledger(folder))
    console.print(f"Written to {folder / NAME}", markup=False, soft_wrap=True)
