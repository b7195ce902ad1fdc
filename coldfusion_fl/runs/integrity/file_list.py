"""The list of a run's files with their hashes: `SHA256SUMS` in the run folder, for `sha256sum --check`.

It has `run.json`, the record, scores and metrics of each round, the files of the models, and the report as JSON and
CSV. A record has the hashes of the arrays of its round, and that of the record before it. So the list covers the
settings, all scores, all arrays and the number of rounds, and the hash of the list stands for the whole run.

Only the process that writes a file puts it into the list. A file that was changed or removed in another way differs
from the list. Whoever can write the folder can write the list too: see `signature`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from coldfusion_fl.atomic_files import atomic_write, disk_errors, sha256
from coldfusion_fl.errors import ErrorCode, RunFolderError
from coldfusion_fl.runs.integrity.round_folders import scan_rounds

CHECKSUMS = "SHA256SUMS"
RUN_FILE = "run.json"
RECORD, SCORES, METRICS = "record.json", "scores.json", "metrics.json"
# What a run writes beside its rounds. Pages and figures show the same numbers, and may be written again at any time.
RESULTS = ("model", "last-base", "report.json", "report.csv")


class FileList:
    """Reads and writes the list of a run.

    Args:
        folder: the run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read(self) -> dict[str, str]:
        """The hashes by path, relative to the run folder; empty where an earlier release wrote the run.

        Raises:
            RunFolderError: the list cannot be read.
        """
        return read_checksums(self.folder / CHECKSUMS) if (self.folder / CHECKSUMS).exists() else {}

    def put(self, *paths: str) -> None:
        """Put files as they are now into the list; of a folder, all its files, in place of those that are listed.

        Raises:
            RunFolderError: the disk is full or cannot be written.
        """
        listed = {path: digest for path, digest in self.read().items() if not path.startswith(_prefixes(paths))}
        self._write(listed | self._hashes(paths))

    def put_missing(self, *paths: str) -> None:
        """Put those files into the list that are not in it: a process was killed before it could."""
        listed = self.read()
        if missing := [path for path in paths if path not in listed and (self.folder / path).is_file()]:
            self.put(*missing)

    def drop(self, *paths: str) -> None:
        """Take files, or all files of folders, out of the list."""
        listed = self.read()
        kept = {
            path: digest
            for path, digest in listed.items()
            if path not in paths and not path.startswith(_prefixes(paths))
        }
        if kept != listed:
            self._write(kept)

    def drop_rounds(self, first: int) -> None:
        """Take a round and all later ones out of the list: they were removed, and are made again."""
        self.drop(*(f"rounds/{number:03d}" for number in listed_rounds(self.read()) if number >= first))

    def matches(self, path: str) -> bool:
        """Whether a file is as it is in the list, or is not in it."""
        listed = self.read().get(path)
        return listed is None or ((self.folder / path).is_file() and sha256(self.folder / path) == listed)

    def current(self) -> dict[str, str]:
        """The hashes of all files that a list covers, as they are on disk now."""
        files = [path for number in scan_rounds(self.folder / "rounds").numbers for path in round_files(number)]
        return self._hashes([RUN_FILE, *files, *RESULTS])

    def _hashes(self, paths: Iterable[str]) -> dict[str, str]:
        files = [file for path in paths for file in files_of(self.folder / path)]
        return {file.relative_to(self.folder).as_posix(): sha256(file) for file in files}

    def _write(self, checksums: Mapping[str, str]) -> None:
        with disk_errors(self.folder), atomic_write(self.folder / CHECKSUMS) as path:
            path.write_text(format_checksums(dict(sorted(checksums.items()))), encoding="utf-8")


def listed_rounds(listed: Mapping[str, str]) -> list[int]:
    """The numbers of the rounds whose records are in a list, in order."""
    found = (re.fullmatch(rf"rounds/([0-9]{{3,9}})/{RECORD}", path) for path in listed)
    return sorted(int(match[1]) for match in found if match)


def round_files(number: int) -> list[str]:
    """The paths of the files of a round that a list has, whether they exist or not."""
    return [f"rounds/{number:03d}/{name}" for name in (RECORD, SCORES, METRICS)]


def read_checksums(file: Path) -> dict[str, str]:
    """The hashes of a file of `sha256sum`, by path.

    Raises:
        RunFolderError: it cannot be read.
    """
    try:
        return parse_checksums(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as broken:
        raise RunFolderError(f"{file}: it cannot be read: {broken}.", ErrorCode.RUN_FOLDER_DAMAGED) from None


def parse_checksums(text: str) -> dict[str, str]:
    """The hashes in a text of `sha256sum`, by path."""
    lines = text.splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def format_checksums(checksums: Mapping[str, str]) -> str:
    """Hashes by path as `sha256sum` writes them."""
    return "".join(f"{digest}  {name}\n" for name, digest in checksums.items())


def _prefixes(paths: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{path}/" for path in paths)


def files_of(path: Path) -> Iterator[Path]:
    """The file of a path, or all files in its folder; nothing where it does not exist."""
    if path.is_dir():
        yield from sorted(file for file in path.rglob("*") if file.is_file())
    elif path.is_file():
        yield path
