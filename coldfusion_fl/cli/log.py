"""`coldfusion log` and `coldfusion report`: a run in the terminal, and as a page."""

import json
from pathlib import Path
from typing import Annotated

import typer

from coldfusion_fl.cli.app import app, console
from coldfusion_fl.errors import count
from coldfusion_fl.runs.ledger import Ledger


@app.command(name="log")
def show_log(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the records of all rounds as JSON.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Check every file against its hash.")] = False,
) -> None:
    """Show a run's lineage: in each round, the fused contributions with their norms, and the rejected ones."""
    from coldfusion_fl.runs.lineage import lineage, print_lineage

    ledger = Ledger(folder)
    bases = lineage(ledger, check=check)
    if as_json:
        print(json.dumps([base.to_json() for base in bases], indent=1))
        return
    print_lineage(ledger, bases, console)
    if check:
        console.print(f"\nAll files of {count(len(bases), 'round')} match their hashes.")


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Write report.html into a run folder: one page with scores, contributions, settings and timings.

    A run that reaches its last round has it already. The command is for a run that ended early or goes on, and for a
    folder that an earlier version wrote.
    """
    from coldfusion_fl.pages.run_page import NAME, write_run_page

    write_run_page(Ledger(folder))
    console.print(f"Written to {folder / NAME}", markup=False, soft_wrap=True)
