"""What a run folder has beside its rounds: the model, its card, and the report."""

from collections.abc import Sequence

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.formatting import number
from coldfusion_fl.model.base import Base
from coldfusion_fl.model.card import as_code, as_text, licence_text
from coldfusion_fl.model.export import save_model
from coldfusion_fl.model.origin import read_origin
from coldfusion_fl.pages.run_page import write_page_of_finished_run
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.model_card import Which, model_card
from coldfusion_fl.runs.records import RoundRecord
from coldfusion_fl.runs.report import write_report

_CHECKPOINTS = """
## Checkpoints

| round | checkpoint | revision | licence | norm | share | SHA-256 of its arrays |
|---|---|---|---|---|---|---|
{rows}

Norm: the length of the update from the base of the round before. Share: the weight in the fusion.
"""


def write_results(ledger: Ledger, base: Base, average: Encoder | None) -> None:
    """Write the result as `model`, the last base beside it where it is another encoder, and the report.

    Args:
        ledger: the run; its rounds are saved.
        base: the base that the run began with, whose files are carried over.
        average: the result, where the moving average of the bases is the result; None: the last base is.

    Raises:
        RunFolderError: the disk is full or cannot be written, or the last base is damaged.
    """
    records = ledger.records()
    last_base = ledger.load_base(records[-1].round)
    models = {"model": last_base} if average is None else {"model": average, "last-base": last_base}
    origin = read_origin(base)
    others = other_licences(records, licence_text(origin.licence))
    for name, encoder in models.items():
        which: Which = "result" if name == "model" else "last-base"
        with ledger.writing(name) as folder:
            save_model(base, encoder, folder)
            card = model_card(ledger, encoder_hash(encoder), origin, which, other_licences=others)
            (folder / "README.md").write_text(card + _checkpoint_table(records), encoding="utf-8")
    write_report(ledger)
    write_page_of_finished_run(ledger)


def other_licences(records: Sequence[RoundRecord], licence: str) -> list[str]:
    """The fused checkpoints whose licence is known and is not the base's, as clauses.

    Args:
        records: of all rounds.
        licence: the base's; empty: it is not known.
    """
    fused = (
        checkpoint
        for record in records
        if record.fused
        for name, checkpoint in (record.checkpoints or {}).items()
        if name in record.contributions
    )
    clauses = (f"{one.reference}: {one.licence}" for one in fused if one.licence and one.licence != licence)
    return list(dict.fromkeys(clauses))


def _checkpoint_table(records: Sequence[RoundRecord]) -> str:
    """The fused checkpoints of a run as a section of its card; empty: it has none."""
    rows = [
        f"| {record.round} | {as_code(checkpoint.reference).replace('|', chr(92) + '|')} | "
        f"{as_text(checkpoint.revision)} | {as_text(checkpoint.licence) or 'not known'} | "
        f"{number(found.norm, 3)} | {number(found.share, 3)} | {found.sha256} |"
        for record in records
        if record.fused
        for name, checkpoint in (record.checkpoints or {}).items()
        if (found := record.contributions.get(name))
    ]
    return _CHECKPOINTS.format(rows="\n".join(rows)) if rows else ""
