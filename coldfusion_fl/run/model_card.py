"""The model card of a fused model: its README."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from coldfusion_fl.errors import count
from coldfusion_fl.formatting import interval, number
from coldfusion_fl.model.card import as_code, as_text, licence_text, write_header
from coldfusion_fl.run.intervals import SCORED
from coldfusion_fl.run.ledger import Ledger
from coldfusion_fl.run.records import RoundSettings
from coldfusion_fl.run.report import notes, summarize

_CARD = """\
---
{header}
---

# A ColD Fusion base

Made with coldfusion-fl in {rounds} from the base {base} (SHA-256 of its arrays: {base_hash}), {contributors}
per round, fusion {fusion}, server optimizer {server_optimizer}, screening
{screening}, seed {seed}. Each contributor finetuned the shared encoder on its own data and sent back the
encoder alone. {what} SHA-256 of this model's arrays: {hash}.

{licence}

Fused contributors, with the number of rounds: {fused}.

Tasks for evaluation only: {unseen}.

```python
from transformers import AutoModel, AutoTokenizer

encoder = AutoModel.from_pretrained(FOLDER)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
```

## Test scores{scores}

## Method

Don-Yehiya, Venezian, Raffel, Slonim, Choshen: ColD Fusion: Collaborative Descent for Distributed Multitask Finetuning,
ACL 2023.

Software: {versions}.
"""

_SCORES = """\
, in points

| task | | frozen: base | fused | difference | few-shot: base | fused | difference |
|---|---|---|---|---|---|---|---|
{rows}

{verdict}

Head: {heads}. Frozen: a linear probe. Few-shot: finetuned on {shots} labelled examples.{notes}"""


def model_card(ledger: Ledger, encoder_hash: str, licence: Mapping[str, Any], *, is_result: bool = True) -> str:
    """The Markdown card of a model of a run: how it was made, and its scores.

    Args:
        ledger: the run; its rounds are saved.
        encoder_hash: the SHA-256 of the model's arrays.
        licence: the base's, as `export.read_licence` returns it.
        is_result: whether the model is the run's result; if not, it is the last base, which has no scores.
    """
    settings, records = ledger.settings, ledger.records()
    fused = Counter(name for record in records if record.fused for name in record.contributions)
    made = records[-1].settings
    assert made  # every saved round has them
    kept = sum(not record.fused for record in records if record.round)
    return _CARD.format(
        header=write_header(tags=["cold-fusion", "federated-learning", "model-merging"], **licence),
        rounds=count(records[-1].round, "round") + (f", of which {kept} kept its base," if kept else ""),
        base=as_code(settings["base"]),
        base_hash=records[0].base_sha256,
        what=_what(made, settings["server"]["blend"] if made.ema else 1, is_result),
        hash=encoder_hash,
        licence=_licence_sentence(licence),
        contributors=count(settings["contributors-per-round"], "contributor"),
        fusion=as_code(made.fusion),
        server_optimizer=as_code(made.server_optimizer),
        screening=", ".join(map(as_code, made.screening)) or "none beyond the array checks",
        seed=settings["seed"],
        fused=", ".join(f"{as_text(name)} ({number})" for name, number in sorted(fused.items())) or "none",
        unseen=", ".join(map(as_text, settings["tasks"]["unseen"])) or "none",
        scores=_scores(ledger) if is_result else "\n\nThe scores of the run are those of its result, `model`.",
        versions=", ".join(f"{name} {version}" for name, version in ledger.versions.items()),
    )


def _what(made: RoundSettings, blend: float, is_result: bool) -> str:
    """Which encoder of the run this is."""
    if not is_result:
        return "This is the last base. The result of the run is the average of its bases, `model`."
    if not made.ema:
        return "This is the last base."
    rest = f", with the weight {blend:g}, blended with the first base" if blend < 1 else ""
    return f"This is the moving average of the bases (decay {made.ema:g}){rest}."


def _licence_sentence(licence: Mapping[str, Any]) -> str:
    if "license" not in licence:
        return "No licence could be read from the README.md of the base's folder."
    return f"Licence of the base: {as_text(licence_text(licence))}."


def _scores(ledger: Ledger) -> str:
    summary = summarize(ledger)
    if not summary["tasks"]:
        return "\n\nThe run has no scores."
    return _SCORES.format(
        rows="\n".join(map(_table_row, summary["tasks"] + summary["means"])),
        verdict="\n".join(f"- {as_text(found['sentence'])}" for found in summary["verdict"]),
        heads=", ".join(sorted({as_text(row["head"]) for row in summary["tasks"]})),
        shots=ledger.settings["evaluate"]["shots"],
        notes="".join(f" {note}" for note in notes(summary)),
    )


def _table_row(row: dict[str, Any]) -> str:
    role = "" if row["seen"] == "" else "seen" if row["seen"] else "unseen"
    written = " | ".join(cell for mode in SCORED for cell in _cells(row, mode))
    return f"| {as_text(row['task'])}{'†' if row.get('differs') else ''} | {role} | {written} |"


def _cells(row: dict[str, Any], mode: str) -> list[str]:
    """The two scores, and their difference with its interval, as far as they are known."""
    scores = ["" if (points := row[f"{mode}-{which}"]) is None else f"{points:.1f}" for which in ("base", "fused")]
    difference, low, high = (row[f"{mode}-{which}"] for which in ("difference", "low", "high"))
    if difference is None:
        return [*scores, ""]
    return [*scores, f"{number(difference, signed=True)} {interval(low, high)}".rstrip()]
