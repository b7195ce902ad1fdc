"""The card of a fused model: its README."""

import json
from collections import Counter

from coldfusion_fl.run.ledger import Ledger
from coldfusion_fl.run.report import SCORED, summarize

_CARD = """\
---
library_name: transformers
tags: [cold-fusion, federated-learning, model-merging]
---

# A ColD Fusion base

Made by coldfusion-fl: {rounds} rounds from the base `{base}` (SHA-256 of its arrays: {base_hash}), {contributors}
contributors a round, fusion `{fusion}`, server optimizer `{server_optimizer}`, screening
{screening}, seed {seed}. Each contributor finetuned the shared encoder on its own data and sent back the
encoder alone. SHA-256 of this model's arrays: {hash}.

Contributors that were fused, with the number of rounds: {fused}.

Tasks that only judged: {unseen}.

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
    """How the fused model of a run came about, and what it scored, as Markdown."""
    settings, summary = ledger.settings, summarize(ledger)
    versions = json.loads((ledger.folder / "run.json").read_text(encoding="utf-8"))["versions"]
    rows = []
    for row in summary["tasks"] + summary["means"]:
        role = "" if row["seen"] == "" else "seen" if row["seen"] else "unseen"
        cells = [row[f"{mode}-{which}"] for mode in SCORED for which in ("base", "fused")]
        written = " | ".join("" if cell is None else f"{cell:.1f}" for cell in cells)
        rows.append(f"| {row['task']} | {role} | {written} |")
    records = [ledger.record(number) for number in ledger.rounds()]
    fused = Counter(name for record in records if record.get("fused") for name in record["contributions"])
    last, judged = records[-1], summary["judged"]
    old = summary["tasks"] and judged["fused"] != judged["last-round"]
    return _CARD.format(
        rounds=last["round"],
        base=settings["base"],
        base_hash=records[0]["base-sha256"],
        hash=last["base-sha256"],
        contributors=settings["contributors-per-round"],
        fusion=last["fusion"],
        server_optimizer=last["server-optimizer"],
        screening=", ".join(f"`{rule}`" for rule in ["misfit", *last["screening"]]),
        seed=settings["seed"],
        fused=", ".join(f"{name} ({count})" for name, count in sorted(fused.items())) or "none",
        unseen=", ".join(settings["tasks"]["unseen"]) or "none",
        rows="\n".join(rows),
        heads=", ".join(sorted({row["head"] for row in summary["tasks"]})),
        shots=settings["evaluate"]["shots"],
        note=f" The scores are those of round {judged['fused']}'s base, the last that was judged." if old else "",
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
    )
