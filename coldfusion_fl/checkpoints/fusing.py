"""Fusion of finetuned checkpoints into a better base (Choshen et al. 2022, arXiv 2204.03044, section 3).

This is one round of ColD Fusion without a federation: the contributions are checkpoints that exist already.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from coldfusion_fl.aggregation.pipeline import Pipeline, Screened
from coldfusion_fl.aggregation.screening import Candidate, Rule, ScoreFunction
from coldfusion_fl.aggregation.server_optimizer import ServerOptimizer
from coldfusion_fl.arrays.blocks import update_norm
from coldfusion_fl.arrays.disk_arrays import ArrayFile
from coldfusion_fl.arrays.encoder import EncoderDict, size_in_bytes
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.checkpoints.candidates import (
    Progress,
    check_disk,
    find_warnings,
    open_checkpoints,
    read_candidates,
)
from coldfusion_fl.checkpoints.checkpoint import Checkpoint, LoadedBase, load_base
from coldfusion_fl.errors import ErrorCode, FusionError, SettingsError, count
from coldfusion_fl.fusion import Operator, WeightedMean, fuse_with_shares
from coldfusion_fl.model.base import Base


@dataclass(frozen=True)
class FusedCheckpoint:
    """A checkpoint, and what became of it.

    Attributes:
        checkpoint: the opened checkpoint.
        sha256: the hash of its encoder, in the names, shapes and types of the base.
        norm: ‖θ_c − θ‖₂, the length of its update over all arrays.
        cosine: between its update and the mean direction of the others; None if it is undefined.
        share: the factor of its update in the fused update; None: it was rejected, or the fusion has no such factor.
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
    encoder: EncoderDict = field(repr=False)
    sha256: str
    update_norm: float
    checkpoints: tuple[FusedCheckpoint, ...]
    pipeline: Pipeline


def check_pipeline(
    pipeline: Pipeline,
    checkpoints: Sequence[str],
    weights: Sequence[float],
    *,
    has_score_function: bool,
    min_contributions: int = 1,
    has_rollback: bool = False,
) -> None:
    """Check that checkpoints can be fused like this, before anything is loaded.

    Args:
        pipeline: screening, fusion and server optimizer.
        checkpoints: the references of the checkpoints.
        weights: as in `fuse_checkpoints`.
        has_score_function: whether there is a score of an encoder.
        min_contributions: with fewer checkpoints, a run keeps its base.
        has_rollback: whether a run keeps its base if the score falls.

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
    if len(checkpoints) < min_contributions:
        raise SettingsError(
            f"there {'is' if len(checkpoints) == 1 else 'are'} {count(len(checkpoints), 'checkpoint')}, but "
            f"min-contributions of the run is {min_contributions}. Add more checkpoints to the command, or lower it: "
            f"--min-contributions {len(checkpoints)}",
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
    pipeline.check(
        len(checkpoints), min_contributions, has_score_function=has_score_function, has_rollback=has_rollback
    )


def fuse_checkpoints(
    checkpoints: Sequence[str],
    base: str,
    *,
    fusion: str | Operator = "mean",
    server_optimizer: str | ServerOptimizer = "plain",
    screening: str | Sequence[str | Rule] = "",
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
    opened = open_checkpoints(checkpoints, loaded, progress)
    place = folder or Path(tempfile.gettempdir())
    check_disk(place, size_in_bytes(loaded.encoder), len(opened))
    score_fn = make_score_fn(loaded) if make_score_fn else None
    with closing(ArrayFile(place)) as array_file:
        # Names by content: the result depends neither on the order of the checkpoints nor on their folders.
        candidates = read_candidates(opened, None, loaded, weights, pipeline.fusion, array_file, progress)
        progress("Fusing", len(opened), "")
        screened = pipeline.screen(loaded.encoder, candidates, score_fn)
        if not screened.contributions:
            raise FusionError(_describe_rejections(opened, candidates, screened))
        fused, shares = fuse_with_shares(pipeline.fusion, loaded.encoder, screened.contributions)
    result, _ = pipeline.optimize(loaded.encoder, fused, {})
    base_hash = encoder_hash(loaded.encoder)
    return CheckpointFusion(
        base=loaded.base,
        base_sha256=base_hash,
        base_licence=loaded.licence,
        encoder=result,
        sha256=encoder_hash(result),
        update_norm=update_norm(loaded.encoder, result),
        checkpoints=_outcomes(opened, candidates, screened, shares, base_hash),
        pipeline=pipeline,
    )


def _describe_rejections(opened: Sequence[Checkpoint], candidates: Mapping[str, Candidate], screened: Screened) -> str:
    reasons = "; ".join(
        f"{checkpoint.reference}: {screened.rejected[name][1]}"
        for checkpoint, name in zip(opened, candidates, strict=True)
    )
    return f"the screening rejected all checkpoints. {reasons}."


def _outcomes(
    opened: Sequence[Checkpoint],
    candidates: Mapping[str, Candidate],
    screened: Screened,
    shares: Sequence[float] | None,
    base_hash: str,
) -> tuple[FusedCheckpoint, ...]:
    outcomes = []
    by_name = dict(zip((one.name for one in screened.contributions), shares or (), strict=shares is not None))
    warnings = find_warnings(opened, candidates, base_hash)
    for checkpoint, (name, candidate) in zip(opened, candidates.items(), strict=True):
        rule, reason = screened.rejected.get(name, (None, ""))
        outcomes.append(
            FusedCheckpoint(
                checkpoint=checkpoint,
                sha256=candidate.sha256,
                norm=candidate.norm,
                cosine=screened.cosines[name],
                share=by_name.get(name),
                rejected_by=rule.name if rule else "",
                reason=reason,
                warnings=warnings[name],
            )
        )
    return tuple(outcomes)
