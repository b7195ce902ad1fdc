"""Which files of a round are damaged or missing."""

from collections.abc import Mapping
from pathlib import Path

from coldfusion_fl.atomic_files import sha256
from coldfusion_fl.runs.integrity.file_list import CHECKSUMS, RECORD
from coldfusion_fl.runs.records import RoundRecord


def find_damage(
    folder: Path, checksums: Mapping[str, str], record: RoundRecord, removed_suffix: str | None
) -> list[str]:
    """A sentence for each damaged or missing file of a round.

    Args:
        folder: of the round.
        checksums: the hashes of its files by name.
        record: of the round; it has the hashes of the arrays too.
        removed_suffix: the suffix of files that may be missing; None: none may.
    """
    if RECORD not in checksums or any(checksums.get(name) != digest for name, digest in record.files.items()):
        return [f"{folder / CHECKSUMS}: this file is damaged: it does not list the hashes of the round's record."]
    damage = []
    for name, recorded in checksums.items():
        file = folder / name
        try:
            if sha256(file) != recorded:
                damage.append(f"{file}: this file is damaged: its hash is not {recorded}.")
        except FileNotFoundError:
            if file.suffix != removed_suffix:
                damage.append(f"{file}: this file is missing.")
        except OSError as failure:
            damage.append(f"{file}: it cannot be read: {failure.strerror}.")
    return damage
