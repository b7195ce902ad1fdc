"""`coldfusion push`: a model or a run on the Hugging Face Hub."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coldfusion_fl.cli.app import app, console, print_line
from coldfusion_fl.errors import count
from coldfusion_fl.formatting import size

if TYPE_CHECKING:
    from coldfusion_fl.publishing.model_files import ModelFiles
    from coldfusion_fl.publishing.push import Plan
    from coldfusion_fl.publishing.source import Source


@app.command()
def push(
    folder: Annotated[Path, typer.Argument(help="A run folder (its model), a classifier, or another model folder.")],
    repository: Annotated[
        str, typer.Argument(metavar="REPO", help="The repository of the Hugging Face Hub: OWNER/NAME.")
    ],
    rounds: Annotated[
        str,
        typer.Option(
            "--rounds",
            help="Also upload the bases of rounds, each with its tag round-N: all, or numbers such as 1,5. A run that "
            "is not finished needs it.",
        ),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing. It needs no connection.")
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository a private one.")] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace another model that is in the repository.")
    ] = False,
    token: Annotated[
        str,
        typer.Option(
            "--token", help="A token with the right to write. Default: HF_TOKEN, or the one of `hf auth login`."
        ),
    ] = "",
    message: Annotated[str, typer.Option("--message", help="The message of the model's commit.")] = "",
) -> None:
    """Upload a model to the Hugging Face Hub, with its card; and the rounds of a run, so that others start from one.

    Only the files of the model and its card are sent. Everything is checked before. After an interruption, give the
    same command again.

    Example: coldfusion push runs/first acme/shared-encoder --rounds all --dry-run
    """
    with console.status("Loading torch and the model"):
        from coldfusion_fl.publishing.push import plan_push
        from coldfusion_fl.publishing.push import push as send
        from coldfusion_fl.publishing.repository import Repository, check_id
        from coldfusion_fl.publishing.source import open_source

        check_id(repository)
        source = open_source(folder, rounds)
    for note in source.notes:
        print_line(note)
    if dry_run:
        _show(source, repository)
        return
    target = Repository(repository, token)
    with console.status(f"Looking at {repository}"):
        plan = plan_push(source, target, private=private, replace=replace)
    _show_plan(plan, repository)
    with source.model(repository) as model:
        _show_files(model)
    send(source, target, plan, private=private, message=message, report=print_line)
    print_line(f"Sent to {target.address}")
    last = f"@round-{source.rounds[-1]}" if source.rounds else ""
    print_line(f'Start a run from it: base = "{repository}{last}"')


def _show(source: "Source", repository: str) -> None:
    """Print all that would be sent: files, sizes, tags and the card."""
    from coldfusion_fl.publishing.source import RunSource

    print_line(f"To {repository}: {source.description}")
    with source.model(repository) as model:
        _show_files(model)
        card = model.card
    if isinstance(source, RunSource):
        for number in source.rounds:
            with source.round(number, repository) as model:
                print_line(f"Branch rounds, tag round-{number}: {_total(model)}")
    console.print("\nREADME.md:\n", markup=False)
    console.print(card, markup=False, highlight=False, soft_wrap=True)
    print_line("Nothing was sent, and the repository was not looked at (--dry-run).")


def _show_files(model: "ModelFiles") -> None:
    for path, bytes_ in model.sizes.items():
        print_line(f"  {path}  {size(bytes_)}")
    print_line(f"  {_total(model)}")
    if model.left_out:
        print_line(f"Not sent, because they are no part of the model: {', '.join(model.left_out)}")
    if "\nlicense:" not in model.card:
        print_line("The card names no licence. Others may not use the model without one.")


def _total(model: "ModelFiles") -> str:
    return f"{count(len(model.sizes), 'file')}, {size(sum(model.sizes.values()))}"


def _show_plan(plan: "Plan", repository: str) -> None:
    state = plan.state
    kind = "a new repository" if not state.exists else "private" if state.is_private else "public"
    print_line(f"{repository} ({kind}):")
    if plan.changed:
        print_line(f"Changed in it: {', '.join(plan.changed)}")
    if plan.removed:
        print_line(f"Removed from it: {', '.join(plan.removed)}")
    if plan.there:
        print_line(f"There already: {', '.join(f'round-{number}' for number in plan.there)}")
