"""Fusion of finetuned checkpoints into a better base (Choshen et al. 2022, arXiv 2204.03044, section 3).

This is one round of ColD Fusion without a federation: the contributions are checkpoints that exist already.
"""

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coldfusion_fl.aggregation.pipeline import Pipeline, Screened
from coldfusion_fl.aggregation.screening import Candidate, ScoreFunction
from coldfusion_fl.arrays.blocks import update_norm
from coldfusion_fl.arrays.disk_arrays import ArrayFile
from coldfusion_fl.arrays.encoder import EncoderDict, size_in_bytes
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.checkpoints.checkpoint import (
    Checkpoint,
    LoadedBase,
    check_encoder,
    load_base,
    open_checkpoint,
    read_encoder,
)
from coldfusion_fl.errors import ErrorCode, FusionError, RunFolderError, SettingsError, count
from coldfusion_fl.formatting import size
from coldfusion_fl.fusion import Contribution, Operator, WeightedMean, fuse
from coldfusion_fl.model.base import Base

# Called with what is done now, such as "Reading", the number of the checkpoint from 1, and its reference.
Progress = Callable[[str, int, str], None]


@dataclass(frozen=True)
class FusedCheckpoint:
    """A checkpoint, and what became of it.

    Attributes:
        checkpoint: the opened checkpoint.
        sha256: the hash of its encoder, in the names, shapes and types of the base.
        norm: ‖θ_c − θ‖₂, the length of its update over all arrays.
        cosine: between its update and the mean direction of the others; None if it is undefined.
        share: its weight divided by the sum of all weights; None: it was rejected.
        rejected_by: the screening rule that rejected it; empty: none.
        reason: why it was rejected, as a clause.
        warnings: about this checkpoint, as sentences.
    """

    checkpoint: Checkpoint
    sha256: str
    norm: float
    cosine: float | None
    share: float | None
    rejected_by: str = ""
    reason: str = ""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckpointFusion:
    """The result of fusing checkpoints.

    Attributes:
        base: the opened base.
        base_sha256: the hash of its encoder.
        base_licence: as `export.read_licence` returns it.
        encoder: the fused encoder: float32 arrays in the names and shapes of the base.
        sha256: its hash.
        update_norm: ‖θ' − θ‖₂, the length of the step from the base to the result.
        checkpoints: one for each checkpoint, in the order in which they were given.
        pipeline: how they were fused.
    """

    base: Base
    base_sha256: str
    base_licence: Mapping[str, Any]
    encoder: EncoderDict
    sha256: str
    update_norm: float
    checkpoints: tuple[FusedCheckpoint, ...]
    pipeline: Pipeline


def check_pipeline(
    pipeline: Pipeline, checkpoints: Sequence[str], weights: Sequence[float], *, has_score_function: bool
) -> None:
    """Check that checkpoints can be fused like this, before anything is loaded.

    Args:
        pipeline: screening, fusion and server optimizer.
        checkpoints: the references of the checkpoints.
        weights: as in `fuse_checkpoints`.
        has_score_function: whether there is a score of an encoder.

    Raises:
        SettingsError: a component needs what a checkpoint does not have, or two settings contradict each other.
    """
    if not checkpoints:
        raise SettingsError("there is no checkpoint to fuse.", ErrorCode.SETTING_MISSING)
    fusion = pipeline.fusion
    if fusion.needs_fisher:
        raise SettingsError(
            f"fusion {fusion.name} needs the Fisher diagonal of each contributor, which a checkpoint does not have. "
            "Use another fusion, such as mean.",
            ErrorCode.SETTINGS_CONFLICT,
        )
    if not fusion.allows_screening:
        raise SettingsError(
            f"fusion {fusion.name} protects the contributors of a run, whose privacy loss is accounted over its "
            "rounds. Checkpoints that lie in folders are not protected by it. Use another fusion, such as mean.",
            ErrorCode.SETTINGS_CONFLICT,
        )
    if weights and len(weights) != len(checkpoints):
        raise SettingsError(
            f"there are {count(len(weights), 'weight')} for {count(len(checkpoints), 'checkpoint')}. Give one weight "
            "for each checkpoint, in the same order."
        )
    if any(not 0 < weight < float("inf") for weight in weights):
        raise SettingsError("weights must be finite numbers above 0.")
    if weights and not fusion.uses_weights:
        raise SettingsError(
            f"the fusion {fusion.name} ignores weights. Leave them out, or use another fusion, such as weighted-mean.",
            ErrorCode.SETTINGS_CONFLICT,
        )
    if isinstance(fusion, WeightedMean) and not weights:
        raise SettingsError(
            f"the fusion {fusion.name} needs a weight for each checkpoint, because checkpoints report no numbers. "
            "Give the weights, or use mean.",
            ErrorCode.SETTING_MISSING,
        )
    pipeline.check(len(checkpoints), 1, has_score_function=has_score_function, has_rollback=False)


def fuse_checkpoints(
    checkpoints: Sequence[str],
    base: str,
    *,
    fusion: str = "mean",
    server_optimizer: str = "plain",
    screening: str = "",
    weights: Sequence[float] = (),
    make_score_fn: Callable[[LoadedBase], ScoreFunction] | None = None,
    folder: Path | None = None,
    progress: Progress = lambda step, number, reference: None,
) -> CheckpointFusion:
    """Fuse finetuned checkpoints of one base into a better base.

    Heads and added tokens are left out. The arrays of all checkpoints are written to disk meanwhile, so memory does not
    grow with their number: it holds the base, one checkpoint, and the result.

    Args:
        checkpoints: model folders, run folders (their model), `package:PATH` or Hub ids.
        base: the base that they were finetuned from; the same kinds of references.
        fusion: an operator with its parameters, such as `ties(density=0.2)`.
        server_optimizer: the step from the base towards the fused encoder, such as `learning-rate(learning-rate=0.3)`.
            Its state is empty.
        screening: rules that reject checkpoints, such as `size`.
        weights: a relative weight for each checkpoint, in the same order; empty: all are equal.
        make_score_fn: makes the score of an encoder, more is better, that `greedy-soup` needs; it is called with the
            base.
        folder: a folder with free space for the arrays; None: the system's folder for temporary files.
        progress: is called before each step.

    Returns:
        The fused encoder, and what became of each checkpoint. `save_fusion` writes it as a model folder.

    Raises:
        SettingsError: a component is unknown or out of range, or needs what a checkpoint does not have.
        ModelError: the base or a checkpoint cannot be read; the message names it.
        MismatchError: a checkpoint has another architecture, vocabulary or shape than the base, or values that are not
            finite.
        FusionError: the screening rejected all checkpoints, or the result is not finite.
        RunFolderError: the disk is full.
    """
    pipeline = Pipeline.parse(screening, fusion, server_optimizer)
    check_pipeline(pipeline, checkpoints, weights, has_score_function=make_score_fn is not None)
    progress("Reading", 0, base)
    loaded = load_base(base)
    opened = []
    for number, reference in enumerate(checkpoints, start=1):
        progress("Checking", number, reference)
        opened.append(open_checkpoint(reference, loaded))
    place = folder or Path(tempfile.gettempdir())
    _check_disk(place, size_in_bytes(loaded.encoder), len(opened))
    score_fn = make_score_fn(loaded) if make_score_fn else None
    array_file = ArrayFile(place)
    try:
        candidates: dict[str, Candidate] = {}
        for number, checkpoint in enumerate(opened, start=1):
            progress("Reading", number, checkpoint.reference)
            weight = weights[number - 1] if weights else 1.0
            candidate = _read_candidate(checkpoint, loaded, weight, pipeline.fusion, array_file, candidates)
            candidates[candidate.contribution.name] = candidate
        progress("Fusing", len(opened), "")
        screened = pipeline.screen(loaded.encoder, candidates, score_fn)
        if not screened.contributions:
            raise FusionError(_describe_rejections(opened, candidates, screened))
        fused = fuse(pipeline.fusion, loaded.encoder, screened.contributions)
    finally:
        array_file.close()
    result, _ = pipeline.optimize(loaded.encoder, fused, {})
    base_hash = encoder_hash(loaded.encoder)
    return CheckpointFusion(
        base=loaded.base,
        base_sha256=base_hash,
        base_licence=loaded.licence,
        encoder=result,
        sha256=encoder_hash(result),
        update_norm=update_norm(loaded.encoder, result),
        checkpoints=_outcomes(opened, candidates, screened, base_hash),
        pipeline=pipeline,
    )


def _read_candidate(
    checkpoint: Checkpoint,
    loaded: LoadedBase,
    weight: float,
    fusion: Operator,
    array_file: ArrayFile,
    earlier: Mapping[str, Candidate],
) -> Candidate:
    """Read and check a checkpoint, measure its update, and move its arrays into the file."""
    arrays = dict(read_encoder(checkpoint, loaded))  # in memory until the function returns: they are read four times
    check_encoder(arrays, checkpoint, loaded)
    # Names by content: the result depends neither on the order of the checkpoints nor on their folders.
    sha256 = encoder_hash(arrays)
    copies = sum(candidate.sha256 == sha256 for candidate in earlier.values())
    contribution = Contribution(f"{sha256}-{copies}", array_file.put(arrays))
    # A weighted mean multiplies the two, so only one of them may be the weight.
    if isinstance(fusion, WeightedMean):
        contribution = replace(contribution, metrics={fusion.by: weight})
    else:
        contribution = replace(contribution, weight=weight)
    return Candidate(contribution, update_norm(loaded.encoder, arrays), sha256)


def _describe_rejections(opened: Sequence[Checkpoint], candidates: Mapping[str, Candidate], screened: Screened) -> str:
    reasons = "; ".join(
        f"{checkpoint.reference}: {screened.rejected[name][1]}"
        for checkpoint, name in zip(opened, candidates, strict=True)
    )
    return f"the screening rejected all checkpoints. {reasons}."


def _outcomes(
    opened: Sequence[Checkpoint], candidates: Mapping[str, Candidate], screened: Screened, base_hash: str
) -> tuple[FusedCheckpoint, ...]:
    outcomes = []
    first: dict[str, str] = {}
    for checkpoint, (name, candidate) in zip(opened, candidates.items(), strict=True):
        warnings = checkpoint.warnings
        if candidate.sha256 == base_hash:
            warnings += ("its encoder is the base's, unchanged.",)
        elif candidate.sha256 in first:
            warnings += (f"its encoder is the same as that of {first[candidate.sha256]}, so it counts twice.",)
        first.setdefault(candidate.sha256, checkpoint.reference)
        rule, reason = screened.rejected.get(name, (None, ""))
        outcomes.append(
            FusedCheckpoint(
                checkpoint=checkpoint,
                sha256=candidate.sha256,
                norm=candidate.norm,
                cosine=screened.cosines[name],
                share=screened.shares.get(name),
                rejected_by=rule.name if rule else "",
                reason=reason,
                warnings=warnings,
            )
        )
    return tuple(outcomes)


def _check_disk(folder: Path, encoder_bytes: int, checkpoints: int) -> None:
    needed, free = encoder_bytes * (checkpoints + 1), shutil.disk_usage(folder).free
    if needed > free:
        raise RunFolderError(
            f"{folder}: fusing {count(checkpoints, 'checkpoint')} of {size(encoder_bytes)} needs {size(needed)} of "
            f"disk space, and {size(free)} are free. Free some space, or choose another folder.",
            code=ErrorCode.DISK_FULL,
        )
