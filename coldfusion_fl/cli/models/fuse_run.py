"""`coldfusion fuse --run`: checkpoints as the next round of a run folder, and undo."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.status import Status
from rich.text import Text

from coldfusion_fl.aggregation.pipeline import Pipeline
from coldfusion_fl.cli.app import console
from coldfusion_fl.errors import count
from coldfusion_fl.repository.round_options import RoundOptions
from coldfusion_fl.sanitize import sanitize

if TYPE_CHECKING:
    from coldfusion_fl.repository.checkpoint_round import AddedRound


def fuse_in_run(folder: Path, checkpoints: Sequence[str], base: str, options: RoundOptions) -> None:
    """Add a round to a run, and show it. Ends with exit code 1 if the round keeps its base."""
    # Misspelt components are reported before torch is loaded, which takes seconds.
    Pipeline.parse(options.screening or "", options.fusion or "mean", options.server_optimizer or "plain")
    with console.status("Loading torch"):
        from coldfusion_fl.repository.checkpoint_round import fuse_into_run

    with console.status("") as status:
        added = fuse_into_run(
            folder,
            checkpoints,
            base=base,
            options=options,
            progress=show_progress(status, len(checkpoints)),
            warn=print_text,
        )
    _show_round(folder, added)
    if not added.record.fused:
        raise typer.Exit(1)


def undo_in_run(folder: Path, number: int, base: str) -> None:
    """Take back the last round of a run."""
    with console.status("Loading torch"):
        from coldfusion_fl.repository.undo import undo_round

    with console.status(f"Writing {folder / 'model'}"):
        target = undo_round(folder, number, base=base, warn=print_text)
    print_text(
        f"Round {number} is undone, and its files are in {target}\n"
        f"The run goes on from the base of round {number - 1}, and {folder / 'model'} is the model after it."
    )


def show_progress(status: Status, checkpoints: int) -> Callable[[str, int, str], None]:
    """A function that shows each step; outside of a terminal, it prints a line for each checkpoint."""

    def show(step: str, place: int, reference: str) -> None:
        which = f" ({place} of {checkpoints})" if place and reference else ""
        line = f"{step} {reference or count(place, 'checkpoint')}{which}"
        status.update(Text(sanitize(line)))
        if not console.is_terminal and step == "Reading":
            console.print(sanitize(line), markup=False, soft_wrap=True)

    return show


def print_text(text: str) -> None:
    """Print lines as they are."""
    console.print("\n".join(map(sanitize, text.split("\n"))), markup=False, soft_wrap=True)


def comparison_advice(model: str, base: str) -> str:
    """How to compare a fused model with its base."""
    return (
        "\nCompare it with the base on a task of your catalogue, or of the packaged one (`coldfusion tasks`):\n"
        f"  coldfusion compare {shlex.quote(base)} {shlex.quote(model)} --tasks TASK --catalogue FILE"
    )


def _show_round(folder: Path, added: "AddedRound") -> None:
    from coldfusion_fl.runs.lineage import BaseRecord, print_base

    record = added.record
    for checkpoint in (record.checkpoints or {}).values():
        for warning in checkpoint.warnings:
            print_text(f"warning: {checkpoint.reference}: {warning}")
    if not added.is_new:
        print_text(f"Round {record.round} was made of these checkpoints already. The model and the report are written.")
    print_base(BaseRecord(record, None), console)
    if validation := record.server_validation:
        before, after = (_points(score) for score in (validation.before, validation.after))
        print_text(f"Server validation: {before} for the base of round {record.round - 1}, {after} for the new one.")
    which = "fused" if record.fused else "old"
    print_text(f"\nThe {which} model   {folder / 'model'}\nAll rounds        coldfusion log {shlex.quote(str(folder))}")
    if record.fused:
        print_text(f"Undo              coldfusion fuse --run {shlex.quote(str(folder))} --undo {record.round}")
        print_text(comparison_advice(str(folder), added.ledger.settings["base"]))


def _points(score: float | None) -> str:
    return "not a number" if score is None else f"{score:.2f}"
