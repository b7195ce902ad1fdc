"""Where the checkpoints of a round come from: their names, and what is recorded of them."""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from coldfusion_fl.aggregation.screening import Candidate
from coldfusion_fl.checkpoints.candidates import find_warnings
from coldfusion_fl.checkpoints.checkpoint import Checkpoint
from coldfusion_fl.data.paths import PACKAGE
from coldfusion_fl.errors import SettingsError, count
from coldfusion_fl.model.card import licence_text
from coldfusion_fl.runs.records import CheckpointRecord, RoundRecord
from coldfusion_fl.sanitize import sanitize


def contributor_names(opened: Sequence[Checkpoint]) -> list[str]:
    """A name for each checkpoint: its folder's, with as many folders above as make it unique; or its Hub id.

    Raises:
        SettingsError: a checkpoint is given twice.
    """
    parts = [_name_parts(checkpoint) for checkpoint in opened]
    lengths = [1] * len(opened)
    while True:
        names = ["/".join(path[-length:]) for path, length in zip(parts, lengths, strict=True)]
        clashing = [place for place, name in enumerate(names) if Counter(names)[name] > 1]
        if not clashing:
            return names
        if all(lengths[place] >= len(parts[place]) for place in clashing):
            raise SettingsError(
                f"{opened[clashing[0]].reference} is given twice. Name each checkpoint once; --weights lets one count "
                "more than the others."
            )
        for place in clashing:
            lengths[place] += 1


def _name_parts(checkpoint: Checkpoint) -> tuple[str, ...]:
    reference = checkpoint.reference
    if checkpoint.revision or reference.startswith(PACKAGE):
        return (sanitize(reference),)
    path = Path(os.path.abspath(Path(reference).expanduser()))  # links are not followed
    return tuple(sanitize(part) for part in path.parts[1:])


def describe_checkpoints(
    opened: Sequence[Checkpoint],
    candidates: Mapping[str, Candidate],
    weights: Sequence[float],
    base_hash: str,
    earlier: Iterable[RoundRecord],
) -> dict[str, CheckpointRecord]:
    """Where the contributions of a round come from, by name, with warnings about them.

    Args:
        opened: the checkpoints.
        candidates: their contributions by name, in the same order.
        weights: a relative weight for each; empty: all are equal.
        base_hash: the hash of the base's encoder.
        earlier: the records of the earlier rounds.
    """
    warnings = find_warnings(opened, candidates, base_hash)
    fused = _rounds_by_hash(earlier)
    described = {}
    equal = [1.0] * len(opened)
    for checkpoint, weight, (name, candidate) in zip(opened, weights or equal, candidates.items(), strict=True):
        rounds = fused.get(candidate.sha256, [])
        again = (f"its encoder was fused in {_rounds(rounds)} already.",) if rounds else ()
        described[name] = CheckpointRecord(
            reference=checkpoint.reference,
            revision=checkpoint.revision,
            licence=licence_text(checkpoint.licence),
            weight=weight,
            warnings=[*warnings[name], *again],
        )
    return described


def _rounds_by_hash(records: Iterable[RoundRecord]) -> dict[str, list[int]]:
    """The rounds in which an encoder was fused, by its hash."""
    found: dict[str, list[int]] = {}
    for record in records:
        for contribution in record.contributions.values() if record.fused else ():
            found.setdefault(contribution.sha256, []).append(record.round)
    return found


def _rounds(numbers: Sequence[int]) -> str:
    return f"round {numbers[0]}" if len(numbers) == 1 else f"{count(len(numbers), 'round')}, last in {numbers[-1]},"
