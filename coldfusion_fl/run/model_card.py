"""The model card of a fused model: its README."""

from collections import Counter

from coldfusion_fl.errors import count
from coldfusion_fl.run.ledger import Ledger
from coldfusion_fl.run.report import SCORED, summarize

_CARD = """\
---
library_name: transformers
tags: [cold-fusion, federated-learning, model-merging]
---

# A ColD Fusion base

Made with coldfusion-fl in {rounds} from the base `{base}` (SHA-256 of its arrays: {base_hash}), {contributors}
per round, fusion `{fusion}`, server optimizer `{server_optimizer}`, screening
{screening}, seed {seed}. Each contributor finetuned the shared encoder on its own data and sent back the
encoder alone. SHA-256 of this model's arrays: {hash}.

Fused contributors, with the number of rounds: {fused}.

Tasks for evaluation only: {unseen}.

```python
from transformers import AutoModel, AutoTokenizer

encoder = AutoModel.from_pretrained(FOLDER)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
```

## Test scores, in points

| task | | frozen: base | fused | few-shot: base | fused |
|---|---|---|---|---|---|
{rows}

Head: {heads}. Frozen: a linear probe. Few-shot: finetuned on {shots} labelled examples.{note}

## Method

Don-Yehiya, Venezian, Raffel, Slonim, Choshen: ColD Fusion: Collaborative Descent for Distributed Multitask Finetuning,
ACL 2023.

Software: {versions}.
"""


def model_card(ledger: Ledger) -> str:
    """The Markdown card of a run's fused model: how it was made, and its scores.

    Args:
        ledger: the run; its rounds are saved.
    """
    settings, summary = ledger.settings, summarize(ledger)
    rows = []
    for row in summary["tasks"] + summary["means"]:
        role = "" if row["seen"] == "" else "seen" if row["seen"] else "unseen"
        cells = [row[f"{mode}-{which}"] for mode in SCORED for which in ("base", "fused")]
        written = " | ".join("" if cell is None else f"{cell:.1f}" for cell in cells)
        rows.append(f"| {row['task']} | {role} | {written} |")
    records = ledger.records()
    fused = Counter(name for record in records if record.fused for name in record.contributions)
    last, evaluated = records[-1], summary["evaluated"]
    old = summary["tasks"] and evaluated["fused"] != evaluated["last-round"]
    made = last.settings
    assert made  # every saved round has them
    return _CARD.format(
        rounds=count(last.round, "round"),
        base=settings["base"],
        base_hash=records[0].base_sha256,
        hash=last.base_sha256,
        contributors=count(settings["contributors-per-round"], "contributor"),
        fusion=made.fusion,
        server_optimizer=made.server_optimizer,
        screening=", ".join(f"`{rule}`" for rule in made.screening) or "none beyond the array checks",
        seed=settings["seed"],
        fused=", ".join(f"{name} ({number})" for name, number in sorted(fused.items())) or "none",
        unseen=", ".join(settings["tasks"]["unseen"]) or "none",
        rows="\n".join(rows),
        heads=", ".join(sorted({row["head"] for row in summary["tasks"]})),
        shots=settings["evaluate"]["shots"],
        note=f" The scores are from round {evaluated['fused']}, the last evaluated base." if old else "",
        versions=", ".join(f"{name} {version}" for name, version in ledger.versions.items()),
    )
