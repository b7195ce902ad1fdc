"""A run's lineage: which base came of which, by whose contributions."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coldfusion_fl import formatting
from coldfusion_fl.errors import ErrorCode, RunFolderError, count
from coldfusion_fl.runs.integrity.reading import read_consistently
from coldfusion_fl.runs.integrity.verification import Verified, verify_list
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.records import RoundRecord, UpdateFacts
from coldfusion_fl.sanitize import sanitize

_DIGITS = 10


@dataclass(frozen=True)
class BaseRecord:
    """A base in a run's lineage.

    Attributes:
        record: the record of the round that made it.
        mean_frozen_score: the mean of the frozen scores after the round, in points: of the base or, where `ema` is set,
            of the average of the bases so far; None: nothing was evaluated.
    """

    record: RoundRecord
    mean_frozen_score: float | None

    def to_json(self) -> dict[str, Any]:
        """The record as nested tables, with the mean score."""
        return self.record.to_json() | {"mean-frozen-score": self.mean_frozen_score}


def lineage(ledger: Ledger, *, check: bool = False) -> list[BaseRecord]:
    """The records of all saved rounds, oldest first, each with the mean of its scores.

    Args:
        ledger: the run.
        check: check every file against its hash, and against the run's list of files.

    Raises:
        RunFolderError: it holds no run, a record does not follow the one before it, or files are damaged, changed or
            missing; all of them are named.
    """
    _ = ledger.settings  # raises if this is not a run folder
    if check:
        verify_files(ledger)
    return read_consistently(ledger, lambda: _read_lineage(ledger))


def verify_files(ledger: Ledger) -> Verified:
    """Check every file of a run against its hash, and against the list of the run's files.

    Raises:
        RunFolderError: files are damaged, changed or missing; all of them are named.
    """

    def verify() -> Verified:
        numbers = ledger.rounds()
        damage = {number: found for number in numbers if (found := ledger.find_damage(number))}
        verified = verify_list(ledger.folder, numbers)
        sentences = [sentence for found in damage.values() for sentence in found]
        damaged = tuple(sentence.partition(": ")[0] for sentence in sentences)
        # What is damaged differs from the list too.
        sentences += [found for found in verified.differences if found.partition(": ")[0] not in damaged]
        if damage:
            sentences.append(ledger.recovery_advice(min(damage)))
        if sentences:
            raise RunFolderError("\n".join(sentences), ErrorCode.RUN_FOLDER_DAMAGED)
        return verified

    return read_consistently(ledger, verify)


def _read_lineage(ledger: Ledger) -> list[BaseRecord]:
    bases: list[BaseRecord] = []
    for number in ledger.rounds():
        record = ledger.record(number)
        if bases and record.previous_record_sha256 != ledger.record_hash(number - 1):
            raise RunFolderError(
                f"{ledger.round_folder(number)}: the record does not contain the hash of round {number - 1}. One of "
                "the two rounds was changed, or comes from another run."
            )
        scores = [found["frozen"] for found in ledger.load_scores(number).values() if "frozen" in found]
        bases.append(BaseRecord(record, sum(scores) / len(scores) if scores else None))
    return bases


def print_lineage(ledger: Ledger, bases: Sequence[BaseRecord], console: Console) -> None:
    """Print a lineage as text and tables."""
    current = ledger.state
    state: str = current.state
    if state == "running" and not ledger.is_locked:
        state = "lost"
    console.print(f"{ledger.folder}: {state}, {count(len(bases), 'base')}", markup=False)
    if current.reason:
        reason = "\n".join(map(sanitize, current.reason.splitlines()))
        console.print(f"The run ended early: {reason}", markup=False, soft_wrap=True)
    for base in bases:
        print_base(base, console)
    if undone := sorted(path.name for path in ledger.folder.glob("undone/*")):
        console.print(f"\nRounds that were undone, in {ledger.folder / 'undone'}: {', '.join(undone)}", markup=False)


def print_base(base: BaseRecord, console: Console) -> None:
    """Print what happened in a round as a line and a table."""
    record, digest = base.record, base.record.base_sha256[:_DIGITS]
    of = " of the average" if record.round and record.settings and record.settings.ema else ""
    score = "" if base.mean_frozen_score is None else f", mean frozen score{of} {base.mean_frozen_score:.2f}"
    if not record.round or record.began is None or record.settings is None:
        console.print(f"\nround 0  first base {digest}{score}", markup=False)
        return
    made = f"{record.settings.fusion}, {record.settings.server_optimizer}"
    outcome = made if record.fused else f"KEPT: {record.kept_because}"
    if record.checkpoints is not None:
        outcome += "; of checkpoints"
    seconds = record.ended - record.began
    console.print(f"\nround {record.round}  base {digest}: {outcome}; {seconds:.0f} s{score}", markup=False)
    if spent := record.privacy:
        console.print(
            f"         privacy loss of the contributor with the most rounds ({spent.rounds}): ε = {spent.epsilon:g} "
            f"at δ = {spent.delta:g}",
            markup=False,
        )
    console.print(_contributions_table(record))


def _contributions_table(record: RoundRecord) -> Table:
    """A row for each contributor that was sampled, rejected, excluded, not connected or paused."""
    table = Table(box=None, padding=(0, 2), show_edge=False)
    for column in ("", "contributor", "share", "norm", "cosine", "sha256", "reason"):
        table.add_column(column, justify="right" if column in ("share", "norm", "cosine") else "left")
    passed = "[green]fused" if record.fused else "passed"
    for name, contribution in sorted(record.contributions.items()):
        table.add_row(passed, escape(name), formatting.number(contribution.share, 3), *_facts(contribution))
    for rejection in sorted(record.rejected, key=lambda rejection: rejection.name):
        table.add_row("[red]rejected", escape(rejection.name), "", *_facts(rejection.facts), escape(rejection.reason))
    for name, reason in sorted(record.excluded.items()):
        table.add_row("[red]excluded", escape(name), "", "", "", "", escape(reason))
    for name in sorted(record.missing):
        table.add_row("not connected", escape(name))
    for name, last in sorted(record.paused.items()):
        table.add_row("paused", escape(name), "", "", "", "", f"it did not answer; until round {last}")
    return table


def _facts(facts: UpdateFacts | None) -> tuple[str, str, str]:
    if facts is None:
        return "", "", ""
    cosine = "" if facts.cosine is None else f"{facts.cosine:+.3f}"
    return f"{facts.norm:.4g}", cosine, facts.sha256[:_DIGITS]
