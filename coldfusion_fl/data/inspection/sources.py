"""The tables that a user names, as the sources of tasks: files, folders of splits, and folders of such."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coldfusion_fl.data.rows import SUFFIXES, format_suffix
from coldfusion_fl.data.split_files import SUFFIX_GROUPS, find_split_files, has_train_split, split_of
from coldfusion_fl.errors import ColdFusionError, DataError, ErrorCode

_SHOWN_NAMES = 12


@dataclass(frozen=True)
class Source:
    """Where the rows of one task are.

    Attributes:
        name: the task's name.
        paths: the files or folders of each split; shards in their order.
        folder: the folder whose files are named like splits; None: the files are named one by one.
        unused: the names of other files in the folder that look like rows.
    """

    name: str
    paths: Mapping[str, Sequence[Path]]
    folder: Path | None = None
    unused: Sequence[str] = ()

    @property
    def shown(self) -> Path:
        """The path that stands for the source in messages."""
        return self.folder or self.paths["train"][0]


@dataclass
class _Found:
    """The sources so far, and the errors about paths that are none."""

    sources: list[Source] = field(default_factory=list)
    errors: list[ColdFusionError] = field(default_factory=list)


def find_sources(paths: Sequence[Path]) -> list[Source]:
    """Find the sources of tasks at the given paths, in their order.

    A file is one task. Files of one folder that are named like splits, such as `train.csv` and `test.csv`, are one task
    together. A folder with a train split is one task. In another folder, each table and each folder with a train split
    is one; its .json, .ndjson and .txt files count only if there is nothing else, as a README or a manifest may be one.

    Raises:
        DataError: a path does not exist, or no task is there; the message names all such paths.
    """
    found = _Found()
    splits = _files_of_splits(paths)
    for path in dict.fromkeys(path.resolve() for path in paths):
        try:
            if path in splits:
                files = splits[path]
                if path == next(iter(files.values())):
                    found.sources.append(_of_split_files(files))
            else:
                found.sources += _sources_at(path)
        except ColdFusionError as error:
            found.errors.append(error)
    raise_all(found.errors)
    return _with_own_names(found.sources)


def raise_all(errors: Sequence[ColdFusionError]) -> None:
    """Raise several errors as one, with a line each; nothing if there is none."""
    if errors:
        raise type(errors[0])("\n".join(map(str, errors)), code=errors[0].code)


def _files_of_splits(paths: Sequence[Path]) -> dict[Path, dict[str, Path]]:
    """The given files that are named like splits: for each, those of its folder by split."""
    folders: dict[Path, dict[str, Path]] = {}
    for path in (path.resolve() for path in paths):
        if path.is_file() and (split := split_of(path)):
            folders.setdefault(path.parent, {}).setdefault(split, path)
    return {path: files for files in folders.values() if "train" in files for path in files.values()}


def _of_split_files(files: Mapping[str, Path]) -> Source:
    return Source(_task_name(files["train"].parent), {split: [path] for split, path in files.items()})


def _sources_at(path: Path) -> list[Source]:
    if path.is_file():
        _check_format(path)
        return [Source(_task_name(path), {"train": [path]})]
    if not path.is_dir():
        raise DataError(f"{path}: this path does not exist.", code=ErrorCode.DATA_MISSING)
    if has_train_split(path):
        paths, unused = find_split_files(path)
        return [Source(_task_name(path), paths, path, unused)]
    if _has_class_folders(path):
        return [Source(_task_name(path), {"train": [path]})]
    return _sources_in(path)


def _sources_in(folder: Path) -> list[Source]:
    """The tables in a folder without a train split, and the folders with one."""
    chosen, _ = _choose_entries(folder)
    if not chosen:
        entries = _entries(folder)
        names = ", ".join(entry.name for entry in entries[:_SHOWN_NAMES]) or "nothing"
        more = " and more" if len(entries) > _SHOWN_NAMES else ""
        raise DataError(
            f"{folder}: this folder has no tables ({', '.join(SUFFIXES)}), and no folders with a train split. It "
            f"contains: {names}{more}.",
            code=ErrorCode.DATA_MISSING,
        )
    return [source for entry in chosen for source in _sources_at(entry)]


def _choose_entries(folder: Path) -> tuple[list[Path], list[Path]]:
    """The entries of a folder that are sources, and the other tables."""
    entries = _entries(folder)
    splits = [entry for entry in entries if has_train_split(entry)]
    first, second = (
        [entry for entry in entries if entry.is_file() and format_suffix(entry) in suffixes]
        for suffixes in SUFFIX_GROUPS
    )
    chosen = splits + first
    return (sorted(chosen), second) if chosen else (second, [])


def _entries(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def find_unused(paths: Sequence[Path]) -> list[Path]:
    """The tables in the given folders that `find_sources` leaves out, because there are others."""
    folders = [path for path in paths if path.is_dir() and not has_train_split(path) and not _has_class_folders(path)]
    return [table for folder in folders for table in _choose_entries(folder)[1]]


def _check_format(path: Path) -> None:
    if format_suffix(path) not in SUFFIXES:
        raise DataError(
            f"{path}: the format '{format_suffix(path)}' is not supported. The formats are {', '.join(SUFFIXES)}. Save "
            "a spreadsheet as CSV in UTF-8."
        )


def _has_class_folders(folder: Path) -> bool:
    return any(entry.is_dir() and any(entry.glob("*.txt")) for entry in folder.iterdir())


def _task_name(path: Path) -> str:
    """A name for the table at a path: letters, digits, underscores and dashes."""
    stem = path.name if path.is_dir() else path.name.split(".")[0] or path.name
    return re.sub(r"[^\w-]+", "_", stem).strip("_") or "task"


def _with_own_names(sources: Sequence[Source]) -> list[Source]:
    """The sources with names that differ: of those with the same name, the later ones get a number."""
    named: dict[str, Source] = {}
    for source in sources:
        name, number = source.name, 1
        while name in named:
            number += 1
            name = f"{source.name}_{number}"
        named[name] = Source(name, source.paths, source.folder, source.unused)
    return list(named.values())


def relative_to(folder: Path, path: Path) -> str:
    """A path as a catalogue in a folder writes it: relative to the folder, with slashes."""
    relative = Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
    # A catalogue reads `~` as a home, and `package:` as an installed package.
    return f"./{relative}" if relative.startswith(("~", "package:")) else relative
