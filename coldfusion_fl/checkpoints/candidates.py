"""Checkpoints as the contributions of a round: opened, read, checked, and put on disk one at a time."""

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from coldfusion_fl.aggregation.screening import Candidate
from coldfusion_fl.arrays.blocks import update_norm
from coldfusion_fl.arrays.disk_arrays import ArrayFile
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.checkpoints.checkpoint import (
    Checkpoint,
    LoadedBase,
    check_encoder,
    open_checkpoint,
    read_encoder,
)
from coldfusion_fl.errors import ErrorCode, RunFolderError, count
from coldfusion_fl.formatting import size
from coldfusion_fl.fusion import Contribution, Operator, WeightedMean

# Called with what is done now, such as "Reading", the number of the checkpoint from 1, and its reference.
Progress = Callable[[str, int, str], None]


def open_checkpoints(references: Sequence[str], loaded: LoadedBase, progress: Progress) -> list[Checkpoint]:
    """Open checkpoints, and compare them with their base without reading their weights.

    Raises:
        ModelError: as `open_checkpoint`.
        MismatchError: as `open_checkpoint`.
    """
    opened = []
    for number, reference in enumerate(references, start=1):
        progress("Checking", number, reference)
        opened.append(open_checkpoint(reference, loaded))
    return opened


def check_disk(folder: Path, encoder_bytes: int, checkpoints: int, results: int = 1) -> None:
    """Check that a folder has space for the arrays of the checkpoints and of the results.

    Args:
        folder: an existing folder.
        encoder_bytes: the size of an encoder.
        checkpoints: their number.
        results: the number of encoders that are written beside them.

    Raises:
        RunFolderError: it does not.
    """
    needed, free = encoder_bytes * (checkpoints + results), shutil.disk_usage(folder).free
    if needed > free:
        raise RunFolderError(
            f"{folder}: fusing {count(checkpoints, 'checkpoint')} of {size(encoder_bytes)} needs {size(needed)} of "
            f"disk space, and {size(free)} are free. Free some space, or choose another folder.",
            code=ErrorCode.DISK_FULL,
        )


def read_candidates(
    opened: Sequence[Checkpoint],
    names: Sequence[str] | None,
    loaded: LoadedBase,
    weights: Sequence[float],
    fusion: Operator,
    array_file: ArrayFile,
    progress: Progress,
    frozen: Collection[str] = (),
) -> dict[str, Candidate]:
    """Read and check checkpoints, measure their updates, and move their arrays into a file.

    Args:
        opened: the checkpoints.
        names: their names, each once; None: names by content.
        loaded: the base; its arrays are what the updates are measured from.
        weights: as in `fuse_checkpoints`.
        fusion: the operator that will fuse them.
        array_file: the file that takes the arrays.
        progress: is called before each checkpoint.
        frozen: the names of the arrays that the run does not change; those of the checkpoints are left out.

    Returns:
        The contributions by name, in the order of the checkpoints.

    Raises:
        ModelError: the weights of a checkpoint cannot be read.
        MismatchError: its arrays do not fit the base, or are not finite.
        RunFolderError: the disk is full.
    """
    candidates: dict[str, Candidate] = {}
    for place, checkpoint in enumerate(opened):
        progress("Reading", place + 1, checkpoint.reference)
        weight = weights[place] if weights else 1.0
        name = names[place] if names else None
        candidate = _read_candidate(checkpoint, name, loaded, weight, fusion, array_file, candidates, frozen)
        candidates[candidate.contribution.name] = candidate
    return candidates


def _read_candidate(
    checkpoint: Checkpoint,
    name: str | None,
    loaded: LoadedBase,
    weight: float,
    fusion: Operator,
    array_file: ArrayFile,
    earlier: Mapping[str, Candidate],
    frozen: Collection[str],
) -> Candidate:
    arrays = dict(read_encoder(checkpoint, loaded))  # in memory until the function returns: they are read four times
    check_encoder(arrays, checkpoint, loaded)
    sha256 = encoder_hash(arrays)
    if name is None:
        copies = sum(candidate.sha256 == sha256 for candidate in earlier.values())
        name = f"{sha256}-{copies}"
    for left_out in frozen:
        arrays.pop(left_out, None)
    contribution = Contribution(name, array_file.put(arrays))
    contribution = replace(contribution, weight=weight)
    # A weighted mean multiplies the weight by a reported number, which nobody reported here.
    if isinstance(fusion, WeightedMean):
        contribution = replace(contribution, metrics={fusion.by: 1.0})
    start = {name: loaded.encoder[name] for name in arrays}
    return Candidate(contribution, update_norm(start, arrays), sha256)


def find_warnings(
    opened: Sequence[Checkpoint], candidates: Mapping[str, Candidate], base_hash: str
) -> dict[str, tuple[str, ...]]:
    """The warnings about each checkpoint, as sentences, by the name of its contribution.

    Args:
        opened: the checkpoints.
        candidates: their contributions, in the same order.
        base_hash: the hash of the base's encoder.
    """
    found = {}
    first: dict[str, str] = {}
    for checkpoint, (name, candidate) in zip(opened, candidates.items(), strict=True):
        warnings = checkpoint.warnings
        if candidate.sha256 == base_hash:
            warnings += ("its encoder is the base's, unchanged.",)
        elif candidate.sha256 in first:
            warnings += (f"its encoder is the same as that of {first[candidate.sha256]}, so it counts twice.",)
        if checkpoint.base_sha256 not in ("", base_hash):
            warnings += (
                f"it was finetuned from another base than this one (SHA-256 of its arrays: {checkpoint.base_sha256}).",
            )
        first.setdefault(candidate.sha256, checkpoint.reference)
        found[name] = warnings
    return found
