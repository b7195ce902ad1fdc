"""A run's lineage: which base came of which, by whose contributions."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coldfusion_fl.errors import RunFolderError
from coldfusion_fl.run.ledger import Ledger

_DIGITS = 10


def lineage(ledger: Ledger, *, check: bool = False) -> list[dict[str, Any]]:
    """The records of all durable rounds, oldest first, each with the mean of its scores.

    Args:
        ledger: the run.
        check: check every file against its hash.

    Raises:
        RunFolderError: it holds no run, a record does not follow the one before it, or files are damaged or missing;
            all of them are named.
    """
    records: list[dict[str, Any]] = []
    _ = ledger.settings  # it is a run folder
    numbers = ledger.rounds()
    damage = {number: found for number in numbers if check and (found := ledger.damage(number))}
    if damage:
        sentences = [sentence for found in damage.values() for sentence in found]
        raise RunFolderError("\n".join([*sentences, ledger.recovery_advice(min(damage))]))
    for number in numbers:
        record = ledger.record(number)
        if records and record.get("previous-record-sha256") != ledger.record_hash(number - 1):
            raise RunFolderError(
                f"{ledger.round_folder(number)}: this round does not follow the round {number - 1} that is there: one "
                "of the two is from another run, or was changed."
            )
        scores = [found["frozen"] for found in ledger.load_json(number, "scores.json").values() if "frozen" in found]
        record["mean-frozen-score"] = sum(scores) / len(scores) if scores else None
        records.append(record)
    return records


def print_lineage(ledger: Ledger, records: list[dict[str, Any]], console: Console) -> None:
    """Print a lineage for a person."""
    status = ledger.status
    state = status.get("state", "unknown")
    if state == "running" and not ledger.is_locked:
        state = "not running any more"
    console.print(f"{ledger.folder}: {state}, {len(records)} bases", markup=False)
    for record in records:
        _print_round(record, console)


def _print_round(record: dict[str, Any], console: Console) -> None:
    number, score = record["round"], record["mean-frozen-score"]
    judged = f", mean frozen score {score:.2f}" if score is not None else ""
    if not number:
        console.print(f"\nround 0  base {record['base-sha256'][:_DIGITS]}, the first{judged}", markup=False)
        return
    outcome = (
        f"{record['fusion']}, {record['server-optimizer']}" if record["fused"] else f"KEPT: {record['kept-because']}"
    )
    seconds = record["ended"] - record["began"]
    console.print(
        f"\nround {number}  base {record['base-sha256'][:_DIGITS]}: {outcome}; {seconds:.0f} s{judged}", markup=False
    )
    if spent := record.get("privacy"):
        console.print(
            f"         privacy spent by who took part most often, {spent['rounds']}: ε = {spent['epsilon']:g} "
            f"at δ = {spent['delta']:g}",
            markup=False,
        )
    table = Table(box=None, padding=(0, 2), show_edge=False)
    for column in ("", "contributor", "share", "norm", "cosine", "sha256", "why not"):
        table.add_column(column, justify="right" if column in ("share", "norm", "cosine") else "left")
    fused, rejected = record["contributions"], record["rejected"]
    for name, facts in sorted(fused.items()):
        table.add_row(
            "[green]fused" if record["fused"] else "fit", escape(name), f"{facts['share']:.3f}", *_facts(facts)
        )
    for rejection in sorted(rejected, key=lambda rejection: str(rejection["name"])):
        table.add_row("[red]rejected", escape(rejection["name"]), "", *_facts(rejection), escape(rejection["reason"]))
    for name, reason in sorted(record.get("excluded", {}).items()):
        table.add_row("[red]left out", escape(name), "", "", "", "", escape(reason))
    console.print(table)


def _facts(facts: dict[str, Any]) -> tuple[str, str, str]:
    norm, cosine = facts.get("norm"), facts.get("cosine")
    return (
        "" if norm is None else f"{norm:.4g}",
        "" if cosine is None else f"{cosine:+.3f}",
        facts.get("sha256", "")[:_DIGITS],
    )
