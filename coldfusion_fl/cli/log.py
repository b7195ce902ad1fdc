"""`coldfusion log` and `coldfusion report`: a run in the terminal, and as a page."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coldfusion_fl.cli.app import app, console, print_line
from coldfusion_fl.errors import count
from coldfusion_fl.runs.ledger import Ledger

if TYPE_CHECKING:
    from coldfusion_fl.runs.integrity.verification import Verified


@app.command(name="log")
def show_log(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the records of all rounds as JSON.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Check every file against its hash, and say what this shows.")
    ] = False,
    sign: Annotated[
        Path | None,
        typer.Option(metavar="KEY", help="Check all files, and sign their hashes with this private SSH key."),
    ] = None,
    signer: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Check all files, and that the owner of this public SSH key signed them."),
    ] = None,
) -> None:
    """Show a run's lineage: in each round, the fused contributions with their norms, and the rejected ones."""
    from coldfusion_fl.runs.integrity.problems import find_problems
    from coldfusion_fl.runs.lineage import lineage, print_lineage, verify_files

    ledger = Ledger(folder)
    _ = ledger.settings  # raises if this is not a run folder
    verified = verify_files(ledger) if check or sign or signer else None
    bases = lineage(ledger)
    sentences = list(_describe_check(verified, len(bases))) if verified else []
    sentences += _sign(folder, sign) if sign else []
    sentences += _verify_signature(folder, signer) if signer else []
    if as_json:
        print(json.dumps([base.to_json() for base in bases], indent=1))
        return
    for problem in find_problems(ledger):
        print_line(problem)
    print_lineage(ledger, bases, console)
    if sentences:
        console.print()
    for sentence in sentences:
        print_line(sentence)


def _describe_check(verified: "Verified", rounds: int) -> Iterator[str]:
    """What the check of a run's files has shown, and what it cannot show."""
    yield f"All files of {count(rounds, 'round')} match their hashes."
    if verified.sha256:
        yield f"So do the settings and the results. SHA-256 of the list of all files, SHA256SUMS: {verified.sha256}"
    if verified.unlisted:
        yield (
            f"Not in the list SHA256SUMS, because an earlier release wrote them or a process was killed: "
            f"{', '.join(verified.unlisted)}. If one was changed together with the hash beside it, this is not found."
        )
    yield (
        "This shows that the files belong together, not who wrote them. Whoever can write the folder can remove its "
        "last rounds, or replace them, together with all hashes. A signature (--sign, --signer) or a copy of "
        "SHA256SUMS on another machine shows that."
    )


def _sign(folder: Path, key: Path) -> list[str]:
    from coldfusion_fl.runs.integrity.signature import sign

    signed = sign(folder, key)
    return [
        f"Signed: {count(len(signed.rounds), 'round')}, the settings and the results. SHA-256 of the signed list: "
        f"{signed.sha256}"
    ]


def _verify_signature(folder: Path, signer: Path) -> list[str]:
    from coldfusion_fl.runs.integrity.signature import verify_signature

    signed = verify_signature(folder, signer)
    return [
        f"The owner of {signer} signed {count(len(signed.rounds), 'round')}, the settings and the results, as they are "
        f"now. SHA-256 of the signed list: {signed.sha256}",
        "An older copy of the whole folder, with the signature that it had then, passes this check too. Compare this "
        "hash, or the number of rounds, with what the owner says.",
    ]


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="A run folder.")]) -> None:
    """Write report.html into a run folder: one page with scores, contributions, settings and timings.

    A run that reaches its last round has it already. The command is for a run that ended early or goes on, and for a
    folder that an earlier version wrote.
    """
    from coldfusion_fl.pages.run_page import NAME, write_run_page
    from coldfusion_fl.runs.integrity.problems import find_problems

    ledger = Ledger(folder)
    write_run_page(ledger)
    for problem in find_problems(ledger):
        print_line(problem)
    console.print(f"Written to {folder / NAME}", markup=False, soft_wrap=True)
