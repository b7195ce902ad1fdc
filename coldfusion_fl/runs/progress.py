"""The file `progress.jsonl` of a run folder: events, one a line, appended by several processes.

The format is that of `events`. A newer release may have written a file, so unknown kinds and keys are ignored.
"""

import fcntl
import json
import os
from collections.abc import Callable
from io import SEEK_END, FileIO
from pathlib import Path
from typing import get_args

from pydantic import TypeAdapter, ValidationError

from coldfusion_fl.atomic_files import disk_errors
from coldfusion_fl.errors import ErrorCode, RunFolderError, count
from coldfusion_fl.runs.events import FORMAT, Event, RunStarted

PROGRESS = "progress.jsonl"
_EVENT: TypeAdapter[Event] = TypeAdapter(Event)
_KINDS = frozenset(kind.model_fields["kind"].default for kind in get_args(get_args(Event)[0]))


def format_event(event: Event) -> bytes:
    """An event as a line of JSON."""
    return _EVENT.dump_json(event) + b"\n"


def parse_event(line: bytes, source: Path) -> Event | None:
    """An event of a line of JSON; keys that its class does not have are ignored.

    Args:
        line: the line.
        source: its file, for the error.

    Returns:
        The event; None: its kind is unknown, because a newer release wrote it.

    Raises:
        ValueError: the line is not an event. It may be a part of one: an earlier release could leave a line unfinished
            when the disk was full, and add the next one to it.
        RunFolderError: the format of the lines that follow is too new.
    """
    try:
        event = _EVENT.validate_json(line, extra="ignore")
    except ValidationError as wrong:
        if _has_unknown_kind(line):
            return None
        found = line[:100].decode(errors="replace")
        raise ValueError(f"'{found}' ({wrong.errors()[0]['msg']})") from None
    if isinstance(event, RunStarted) and event.format > FORMAT:
        raise RunFolderError(
            f"{source}: its format has the version {event.format}, but this release reads version {FORMAT}. Install a "
            "newer release of coldfusion-fl.",
        )
    return event


def _has_unknown_kind(line: bytes) -> bool:
    """Whether a line has what all events have, with a kind that is not known here."""
    try:
        found = json.loads(line)
        kind, when = found["kind"], found["time"]
    except (ValueError, KeyError, TypeError):
        return False
    return isinstance(kind, str) and kind not in _KINDS and isinstance(when, int | float)


class ProgressLog:
    """The events of a run, on disk.

    Args:
        file: the file; it need not exist.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def append(self, event: Event) -> None:
        """Add an event: its whole line or nothing, and never behind a line that a killed process did not finish.

        The file is locked meanwhile, because several processes add events to it.

        Raises:
            RunFolderError: the disk is full or cannot be written.
        """
        with disk_errors(self._file.parent), self._file.open("ab+", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = _cut_unfinished_line(file)
            left = memoryview(format_event(event))
            try:
                while left:  # a disk that becomes full takes a part, and raises the error at the next write
                    left = left[file.write(left) :]
            except OSError:
                file.truncate(end)
                raise

    def read(self, position: int = 0, warn: Callable[[str], None] = lambda problem: None) -> tuple[list[Event], int]:
        """The events behind a position, and the position behind them. An unfinished line does not count.

        Events of unknown kinds are left out, and so are lines that are not an event.

        Args:
            position: in bytes, 0 or what an earlier call returned.
            warn: is called with a sentence if lines are not an event.

        Raises:
            RunFolderError: the file cannot be read, or its format is too new.
        """
        try:
            with self._file.open("rb") as file:
                file.seek(position)
                whole, end, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return [], position
        except OSError as failure:
            raise RunFolderError(
                f"{self._file}: it cannot be read: {failure.strerror}. Make it readable.", ErrorCode.RUN_FOLDER_DAMAGED
            ) from None
        events, skipped = [], []
        for number, line in enumerate(whole.split(b"\n"), start=1):
            try:
                if line and (event := parse_event(line, self._file)):
                    events.append(event)
            except ValueError as wrong:
                skipped.append(f"line {number}{'' if position == 0 else f' behind byte {position}'}: {wrong}")
        if skipped:
            more = f" and {count(len(skipped) - 1, 'other line')}" if len(skipped) > 1 else ""
            warn(f"{self._file}: {skipped[0]}{more}: not a valid event. What it said is lost; the rest is read.")
        return events, position + len(whole) + len(end)

    def has_unfinished_line(self) -> bool:
        """Whether the file ends within a line: a process writes it now, or was killed while it did."""
        try:
            with self._file.open("rb") as file:
                return bool(file.read().rpartition(b"\n")[2])
        except OSError:
            return False


def _cut_unfinished_line(file: FileIO) -> int:
    """Cut off what follows the last line break, and return the size of what is left, in bytes."""
    size = file.seek(0, SEEK_END)
    if size == 0 or os.pread(file.fileno(), 1, size - 1) == b"\n":
        return size
    file.seek(0)
    whole, end, _ = file.readall().rpartition(b"\n")
    file.truncate(len(whole) + len(end))
    return len(whole) + len(end)
