"""The model folder of fused checkpoints: the weights, the model card and `fusion.json`."""

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coldfusion_fl.atomic_files import atomic_write
from coldfusion_fl.checkpoints.card import FUSION_FILE, model_card
from coldfusion_fl.checkpoints.fusing import CheckpointFusion, FusedCheckpoint
from coldfusion_fl.errors import ErrorCode, RunFolderError, SettingsError
from coldfusion_fl.model.card import licence_text
from coldfusion_fl.model.export import save_model
from coldfusion_fl.versions import installed_versions


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
