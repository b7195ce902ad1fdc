"""Checks a run folder against a list of its files: the run's own, or a signed one."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from coldfusion_fl.atomic_files import sha256
from coldfusion_fl.runs.integrity.file_list import (
    CHECKSUMS,
    RESULTS,
    RUN_FILE,
    FileList,
    files_of,
    listed_rounds,
    round_files,
)

# In place of a hash.
_MISSING, _UNREADABLE = "missing", "unreadable"


@dataclass(frozen=True)
class Verified:
    """What a list of files says about a run folder.

    Attributes:
        differences: a sentence for each file or round that is not as it is listed.
        unlisted: the paths of rounds, files and folders that the list should have and does not: an earlier release
            wrote them, or a process was killed before it could list them.
        sha256: the hash of the list; empty: there is none.
    """

    differences: list[str]
    unlisted: list[str]
    sha256: str


def verify_list(folder: Path, rounds: list[int]) -> Verified:
    """Check a run folder against its list of files, `SHA256SUMS`.

    Args:
        folder: the run folder.
        rounds: the numbers of the saved rounds, in order.

    Raises:
        RunFolderError: the list cannot be read.
    """
    listed = FileList(folder).read()
    known = listed_rounds(listed)
    differences, unlisted = find_differences(folder, listed, CHECKSUMS), []
    for number in rounds:
        record, *others = round_files(number)
        if number not in known:
            unlisted.append(str(PurePosixPath(record).parent))
        elif added := [path for path in others if path not in listed and os.access(folder / path, os.F_OK)]:
            # A process that is killed after it wrote a file of the last round could not list it.
            differences += [] if number == rounds[-1] else _added(folder, added)
            unlisted += added if number == rounds[-1] else []
        # Nor could it list the last round; but it would have listed all others after the first that is listed.
        if number not in known and number != rounds[-1] and any(other < number for other in known):
            differences += _added(folder, [unlisted.pop()])
    for path in (RUN_FILE, *RESULTS):
        files = [file.relative_to(folder).as_posix() for file in files_of(folder / path)]
        if (added := [file for file in files if file not in listed]) == files:
            unlisted += [path] if files else []
        else:
            differences += _added(folder, added)
    return Verified(differences, unlisted, sha256(folder / CHECKSUMS) if listed else "")


def find_differences(folder: Path, listed: Mapping[str, str], name: str) -> list[str]:
    """A sentence for each listed file that is missing or has another hash; for a missing round, one.

    Args:
        folder: the run folder.
        listed: hashes by path.
        name: what the list is called.
    """
    found: dict[str, None] = {}  # in order, each once
    for path, digest in listed.items():
        file = folder / path
        is_round = path.startswith("rounds/")
        if is_round and not file.parent.is_dir():
            found[f"{file.parent}: this round is missing, but {name} has it. It was deleted or undone."] = None
        elif (now := _hash_of(file)) == _MISSING:
            found[f"{file}: this file is missing, but {name} has it."] = None
        elif now == _UNREADABLE:
            found[f"{file}: this file cannot be read. Make it readable."] = None
        elif now != digest:
            found[f"{file}: this file was changed: its hash is not the one in {name}."] = None
    return list(found)


def _hash_of(file: Path) -> str:
    try:
        return sha256(file)
    except (FileNotFoundError, NotADirectoryError):
        return _MISSING
    except OSError:
        return _UNREADABLE


def _added(folder: Path, paths: list[str]) -> list[str]:
    return [f"{folder / path}: it was added: {CHECKSUMS} does not have it." for path in paths]
