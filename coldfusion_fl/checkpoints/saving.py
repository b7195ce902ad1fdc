"""The model folder of fused checkpoints: the weights, the model card and `fusion.json`."""

import contextlib
import errno
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from coldfusion_fl.atomic_files import atomic_write
from coldfusion_fl.checkpoints.checkpoint import Checkpoint
from coldfusion_fl.checkpoints.fusing import CheckpointFusion, FusedCheckpoint
from coldfusion_fl.errors import ErrorCode, RunFolderError, SettingsError, count
from coldfusion_fl.formatting import number
from coldfusion_fl.model.card import as_code, as_text, licence_text, write_header
from coldfusion_fl.model.export import save_model
from coldfusion_fl.versions import installed_versions

FUSION_FILE = "fusion.json"
_TAGS = ["cold-fusion", "model-merging", "merge"]

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
the weight in the fusion. The same is in `{file}`, for programs.
{notes}
```python
from transformers import AutoModel, AutoTokenizer

encoder = AutoModel.from_pretrained(FOLDER)
tokenizer = AutoTokenizer.from_pretrained(FOLDER)
```

## Method

Choshen, Venezian, Slonim, Katz: Fusing finetuned models for better pretraining, arXiv 2204.03044. Don-Yehiya, Venezian,
Raffel, Slonim, Choshen: ColD Fusion: Collaborative Descent for Distributed Multitask Finetuning, ACL 2023.

Software: {versions}.
"""


def check_target(out: Path) -> None:
    """Check that a model folder can be created.

    Raises:
        SettingsError: the path exists already, or its parent is no folder that can be written.
    """
    if out.exists() or out.is_symlink():
        raise SettingsError(f"{out} exists already. Choose another folder, or remove it.")
    parent = out.absolute().parent
    if not parent.is_dir():
        raise SettingsError(f"{out}: the folder {parent} does not exist. Create it first.")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise SettingsError(f"{out}: the folder {parent} cannot be written. Choose another folder.")


def save_fusion(fusion: CheckpointFusion, out: Path) -> None:
    """Write fused checkpoints as a model folder that transformers and sentence-transformers load like the base's.

    Beside the weights it has a README.md, which names all checkpoints, and `fusion.json` with the same for programs.
    The folder appears when it is complete.

    Args:
        fusion: what `fuse_checkpoints` returned.
        out: the folder to create; it must not exist.

    Raises:
        SettingsError: as `check_target`.
        ModelError: a file of the base's folder cannot be carried over.
        RunFolderError: the disk is full, or the folder cannot be written.
    """
    check_target(out)
    with _disk_errors(out), atomic_write(out.absolute()) as folder:
        save_model(fusion.base, fusion.encoder, folder)
        (folder / "README.md").write_text(model_card(fusion), encoding="utf-8")
        (folder / FUSION_FILE).write_text(json.dumps(describe_fusion(fusion), indent=1) + "\n", encoding="utf-8")


@contextlib.contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        is_full = failure.errno in (errno.ENOSPC, errno.EDQUOT)
        raise RunFolderError(
            f"{out}: it cannot be written: {failure.strerror or failure}. Nothing was left there. Free some space, or "
            "choose another folder.",
            code=ErrorCode.DISK_FULL if is_full else ErrorCode.DISK_ERROR,
        ) from None


def describe_fusion(fusion: CheckpointFusion) -> dict[str, Any]:
    """How a model was made, as in `fusion.json`: base, checkpoints with their hashes, settings and versions."""
    pipeline = fusion.pipeline
    return {
        "base": {
            "reference": fusion.base.reference,
            "sha256": fusion.base_sha256,
            "licence": licence_text(fusion.base_licence),
        },
        "checkpoints": [_describe_checkpoint(fused) for fused in fusion.checkpoints],
        "fusion": str(pipeline.fusion),
        "server-optimizer": str(pipeline.server_optimizer),
        "screening": [str(rule) for rule in pipeline.screening],
        "update-norm": fusion.update_norm,
        "sha256": fusion.sha256,
        "versions": dict(installed_versions()),
    }


def _describe_checkpoint(fused: FusedCheckpoint) -> dict[str, Any]:
    return {
        "reference": fused.checkpoint.reference,
        "revision": fused.checkpoint.revision,
        "licence": licence_text(fused.checkpoint.licence),
        "sha256": fused.sha256,
        "norm": fused.norm,
        "cosine": fused.cosine,
        "share": fused.share,
        "rejected-by": fused.rejected_by,
        "reason": fused.reason,
        "warnings": list(fused.warnings),
    }


def other_licences(fusion: CheckpointFusion) -> list[str]:
    """The fused checkpoints whose licence is known and is not the base's, as clauses."""
    base = licence_text(fusion.base_licence)
    known = [(fused.checkpoint, licence_text(fused.checkpoint.licence)) for fused in _used(fusion)]
    return [f"{checkpoint.reference}: {name}" for checkpoint, name in known if name and name != base]


def _used(fusion: CheckpointFusion) -> list[FusedCheckpoint]:
    return [fused for fused in fusion.checkpoints if fused.share is not None]


def model_card(fusion: CheckpointFusion) -> str:
    """The Markdown card of fused checkpoints: each one with its licence, its hash and its part in the result."""
    pipeline, base = fusion.pipeline, fusion.base
    others = other_licences(fusion)
    # A model of several licences has the terms of all of them, which one name in the header would hide.
    licence: Mapping[str, Any] = {} if others else fusion.base_licence
    sources = [base.reference, *(fused.checkpoint.reference for fused in _used(fusion))]
    on_hub = [name for name in sources if not name.startswith("package:") and not Path(name).expanduser().exists()]
    notes = [f"{fused.checkpoint.reference}: {warning}" for fused in fusion.checkpoints for warning in fused.warnings]
    relation = {"base_model": on_hub, "base_model_relation": "merge"} if on_hub else {}
    return _CARD.format(
        header=write_header(tags=_TAGS, **relation, **licence),
        checkpoints=count(len(_used(fusion)), "finetuned checkpoint"),
        base=as_code(base.reference),
        base_hash=fusion.base_sha256,
        fusion=as_code(str(pipeline.fusion)),
        server_optimizer=as_code(str(pipeline.server_optimizer)),
        screening=", ".join(as_code(str(rule)) for rule in pipeline.screening) or "none",
        hash=fusion.sha256,
        licence=_licence_sentence(licence_text(fusion.base_licence), others),
        rows="\n".join(map(_table_row, fusion.checkpoints)),
        file=FUSION_FILE,
        notes="".join(f"\n- {as_text(note)}" for note in notes) + ("\n" if notes else ""),
        versions=", ".join(f"{name} {version}" for name, version in installed_versions().items()),
    )


def _licence_sentence(base: str, others: list[str]) -> str:
    own = f"Licence of the base: {as_text(base)}." if base else "The licence of the base is not known."
    if not others:
        return own
    return f"{own} Some checkpoints have other licences, and their terms count too: {as_text('; '.join(others))}."


def _table_row(fused: FusedCheckpoint) -> str:
    checkpoint: Checkpoint = fused.checkpoint
    share = f"rejected by {fused.rejected_by}: {fused.reason}" if fused.share is None else f"{fused.share:.3f}"
    cells = (
        as_code(checkpoint.reference).replace("|", r"\|"),
        as_text(checkpoint.revision),
        as_text(licence_text(checkpoint.licence)) or "not known",
        number(fused.norm, 3),
        number(fused.cosine, 3, signed=True),
        as_text(share),
        fused.sha256,
    )
    return f"| {' | '.join(cells)} |"
