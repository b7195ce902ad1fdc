"""The model card of fused checkpoints: its README."""

from collections.abc import Mapping
from typing import Any

from coldfusion_fl.checkpoints.checkpoint import Checkpoint
from coldfusion_fl.checkpoints.fusing import CheckpointFusion, FusedCheckpoint
from coldfusion_fl.errors import count
from coldfusion_fl.formatting import number
from coldfusion_fl.model.card import THIS_MODEL, as_code, as_text, encoder_header, encoder_usage, licence_text
from coldfusion_fl.model.origin import Origin, hide_paths, read_origin
from coldfusion_fl.versions import installed_versions

FUSION_FILE = "fusion.json"

_CARD = """\
---
{header}
---

# A fused base

Made with coldfusion-fl: {checkpoints} of the base {base} (SHA-256 of its arrays: {base_hash}) are fused by {fusion},
server optimizer {server_optimizer}, screening {screening}. Only the encoders are fused; the heads of the checkpoints
are left out. SHA-256 of this model's arrays: {hash}.

{licence}

| checkpoint | revision | licence | norm | cosine | share | SHA-256 of its arrays |
|---|---|---|---|---|---|---|
{rows}

Norm: the length of the update from the base. Cosine: between the update and the mean direction of the others. Share:
the factor of the update in the fused update, where the fusion has one.
{notes}
## Use

{usage}
## Test scores

None were computed. Whether this model is better than the base depends on the checkpoints. This compares both on the
same test rows, with intervals:

```console
$ coldfusion compare BASE {this} --tasks TASK
```

## Method

Choshen, Venezian, Slonim, Katz: Fusing finetuned models for better pretraining, arXiv 2204.03044. Don-Yehiya, Venezian,
Raffel, Slonim, Choshen: ColD Fusion: Collaborative Descent for Distributed Multitask Finetuning, ACL 2023.

Software: {versions}.
"""


def model_card(fusion: CheckpointFusion) -> str:
    """The Markdown card of fused checkpoints: each one with its licence, its hash and its part in the result."""
    pipeline, base = fusion.pipeline, read_origin(fusion.base)
    others = other_licences(fusion)
    # A model of several licences has the terms of all of them, which one name in the header would hide.
    licence: Mapping[str, Any] = {} if others else fusion.base_licence
    sources = [base, *(_origin(fused.checkpoint) for fused in _used(fusion))]
    paths = [fusion.base.reference, *(fused.checkpoint.reference for fused in fusion.checkpoints)]
    notes = [f"{fused.checkpoint.reference}: {warning}" for fused in fusion.checkpoints for warning in fused.warnings]
    return _CARD.format(
        header=encoder_header(
            has_sentence_pooling=base.has_sentence_pooling,
            tags=["model-merging", "merge"],
            licence=licence,
            base_models=[source.hub_id for source in sources if source.hub_id],
            relation="merge",
        ),
        checkpoints=count(len(_used(fusion)), "finetuned checkpoint"),
        base=base.to_markdown(),
        base_hash=fusion.base_sha256,
        fusion=as_code(str(pipeline.fusion)),
        server_optimizer=as_code(str(pipeline.server_optimizer)),
        screening=", ".join(as_code(str(rule)) for rule in pipeline.screening) or "none",
        hash=fusion.sha256,
        licence=_licence_sentence(licence_text(fusion.base_licence), [hide_paths(one, paths) for one in others]),
        rows="\n".join(_table_row(fused, paths) for fused in fusion.checkpoints),
        notes="".join(f"\n- {as_text(hide_paths(note, paths))}" for note in notes) + ("\n" if notes else ""),
        usage=encoder_usage(has_sentence_pooling=base.has_sentence_pooling),
        this=THIS_MODEL,
        versions=", ".join(f"{name} {version}" for name, version in installed_versions().items()),
    )


def _origin(checkpoint: Checkpoint) -> Origin:
    return Origin(checkpoint.reference, checkpoint.revision)


def other_licences(fusion: CheckpointFusion) -> list[str]:
    """The fused checkpoints whose licence is known and is not the base's, as clauses."""
    base = licence_text(fusion.base_licence)
    known = [(fused.checkpoint, licence_text(fused.checkpoint.licence)) for fused in _used(fusion)]
    return [f"{checkpoint.reference}: {name}" for checkpoint, name in known if name and name != base]


def _used(fusion: CheckpointFusion) -> list[FusedCheckpoint]:
    return [fused for fused in fusion.checkpoints if not fused.rejected_by]


def _licence_sentence(base: str, others: list[str]) -> str:
    own = f"Licence of the base: {as_text(base)}." if base else "The licence of the base is not known."
    if not others:
        return own
    return f"{own} Some checkpoints have other licences, and their terms count too: {as_text('; '.join(others))}."


def _table_row(fused: FusedCheckpoint, paths: list[str]) -> str:
    checkpoint: Checkpoint = fused.checkpoint
    share = f"rejected by {fused.rejected_by}: {fused.reason}" if fused.rejected_by else number(fused.share, 3)
    cells = (
        as_code(_origin(checkpoint).name).replace("|", r"\|"),
        as_text(checkpoint.revision),
        as_text(licence_text(checkpoint.licence)) or "not known",
        number(fused.norm, 3),
        number(fused.cosine, 3, signed=True),
        as_text(hide_paths(share, paths)),
        fused.sha256,
    )
    return f"| {' | '.join(cells)} |"
