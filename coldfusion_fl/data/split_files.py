"""The files of a task's splits in a folder, by the names that the Hugging Face Hub knows."""

import re
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from coldfusion_fl.errors import DataError, ErrorCode

# The keywords of the Hub, as in `datasets.data_files.SPLIT_KEYWORDS`; `eval` is a test split there. Those of the second
# group count only if a folder has no file of the first.
_NAMES = {
    "train": (("train",), ("training",)),
    "validation": (("validation", "valid", "dev"), ("val",)),
    "test": (("test",), ("testing", "eval", "evaluation")),
}
# Files of the second group count only if there is none of the first.
SUFFIX_GROUPS = ((".jsonl", ".csv", ".tsv", ".tab", ".parquet"), (".json", ".ndjson", ".txt"))
# A name of a split, alone or of a shard such as `train-00000-of-00002` (older ones end in a hash).
_STEM = re.compile(r"([a-z]+)(?:-(\d{5})-of-(\d{5})(?:-[0-9a-f]+)?)?")
_SHOWN_NAMES = 12


@dataclass(frozen=True)
class _Entry:
    """An entry of a folder.

    Attributes:
        path: its path.
        name: the name of a split, in lower case; empty if the entry is named otherwise.
        shard: the number of the shard; -1: it is the whole split.
        shards: the number of shards; 0: it is the whole split.
    """

    path: Path
    name: str = ""
    shard: int = -1
    shards: int = 0

    def has_suffix(self, suffixes: tuple[str, ...]) -> bool:
        return not {suffix.lower() for suffix in self.path.suffixes}.isdisjoint(suffixes)

    @property
    def has_class_folders(self) -> bool:
        return self.path.is_dir() and any(self.path.glob("*/*.txt"))


def _entries(folder: Path) -> list[_Entry]:
    known = {name for groups in _NAMES.values() for group in groups for name in group}
    entries = []
    for path in sorted(folder.iterdir()):
        stem = _STEM.fullmatch(path.name.split(".")[0].lower())
        if path.name.startswith("."):
            continue
        if stem and stem[1] in known:
            entries.append(_Entry(path, stem[1], int(stem[2] or -1), int(stem[3] or 0)))
        else:
            entries.append(_Entry(path))
    return entries


def find_split_files(folder: Path) -> tuple[dict[str, list[Path]], list[str]]:
    """Find the files of the splits in a folder, such as `train.jsonl` or `Test-00000-of-00002.parquet`.

    A split may also be a folder with one sub-folder of `.txt` files per class.

    Returns:
        The files by split, shards in their order; and the names of other entries that look like rows.

    Raises:
        DataError: the folder does not exist, has no train split, has two files for a split, or lacks a shard.
    """
    if folder.is_file():
        raise DataError(f"{folder}: this is a file. Name it with 'train', not with 'folder'.")
    if not folder.is_dir():
        raise DataError(
            f"{folder}: this folder does not exist. Relative paths start at the data root.", code=ErrorCode.DATA_MISSING
        )
    entries = _entries(folder)
    files = {split: _files_of(folder, split, entries) for split in _NAMES}
    if not files["train"]:
        names = ", ".join(entry.path.name for entry in entries[:_SHOWN_NAMES]) or "nothing"
        more = " and more" if len(entries) > _SHOWN_NAMES else ""
        raise DataError(
            f"{folder}: there is no train split. Name its file train.jsonl, train.csv or similar, or give the files "
            f"with 'train' and 'test' instead of 'folder'. The folder contains: {names}{more}.",
            code=ErrorCode.DATA_MISSING,
        )
    used = {path for paths in files.values() for path in paths}
    rest = [entry for entry in entries if entry.path not in used]
    return (
        {split: paths for split, paths in files.items() if paths},
        [entry.path.name for entry in rest if entry.name or entry.has_suffix(SUFFIX_GROUPS[0])],
    )


def split_of(path: Path) -> str:
    """The split that a file is named like, such as `validation` for `dev.csv`; empty if it is named otherwise."""
    name = path.name.split(".")[0].lower()
    return next((split for split, groups in _NAMES.items() if any(name in group for group in groups)), "")


def has_train_split(folder: Path) -> bool:
    """Whether a folder has a file, a shard or a folder of classes that is named like a train split."""
    return bool(folder.is_dir() and any(_has_rows_of("train", entry) for entry in _entries(folder)))


def _has_rows_of(split: str, entry: _Entry) -> bool:
    named = any(entry.name in group for group in _NAMES[split])
    return named and (entry.has_class_folders or any(map(entry.has_suffix, SUFFIX_GROUPS)))


def unused_beside(used: list[Path], wanted: list[str]) -> list[str]:
    """The names of files beside the used ones that are named like a split that a task does not have.

    Args:
        used: the files of a task.
        wanted: the splits that no file was given for.
    """
    names = {name for split in wanted for group in _NAMES[split] for name in group}
    folders = {path.parent for path in used if path.is_file()}
    return [
        entry.path.name
        for folder in sorted(folders)
        for entry in _entries(folder)
        if entry.name in names and entry.path not in used and any(map(entry.has_suffix, SUFFIX_GROUPS))
    ]


def _files_of(folder: Path, split: str, entries: list[_Entry]) -> list[Path]:
    for names, suffixes in product(_NAMES[split], SUFFIX_GROUPS):
        found = [entry for entry in entries if entry.name in names]
        if found := [entry for entry in found if entry.has_class_folders or entry.has_suffix(suffixes)]:
            return _check_one_source(folder, split, found)
    return []


def _check_one_source(folder: Path, split: str, found: list[_Entry]) -> list[Path]:
    """The only file, or all shards of one split in their order."""
    shards = found[0].shards
    if len({(entry.name, entry.shards) for entry in found}) > 1 or (len(found) > 1 and not shards):
        names = " and ".join(entry.path.name for entry in found)
        raise DataError(f"{folder}: more than one file is named like the {split} split: {names}. Keep one of them.")
    found = sorted(found, key=lambda entry: entry.shard)
    if shards and [entry.shard for entry in found] != list(range(shards)):
        raise DataError(
            f"{folder}: the {split} split has {shards} shards by their names, but the folder has the numbers "
            f"{', '.join(str(entry.shard) for entry in found)}. Get each file from 0 to {shards - 1} once.",
            code=ErrorCode.DATA_MISSING,
        )
    return [entry.path for entry in found]
