"""The file `progress.jsonl` of a run folder: events, one a line, appended by several processes.

The format is that of `events`. A newer release may have written a file, so unknown kinds and keys are ignored.
"""

import json
from pathlib import Path
from typing import get_args

from pydantic import TypeAdapter, ValidationError

from coldfusion_fl.atomic_files import disk_errors
from coldfusion_fl.errors import ErrorCode, RunFolderError
from coldfusion_fl.runs.events import FORMAT, Event, RunStarted

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
        RunFolderError: the line is not an event, or the format of the lines that follow is too new.
    """
    try:
        event = _EVENT.validate_json(line, extra="ignore")
    except ValidationError as wrong:
        if _has_unknown_kind(line):
            return None
        found = line[:100].decode(errors="replace")
        raise RunFolderError(
            f"{source}: this line is not a valid event: '{found}' ({wrong.errors()[0]['msg']}). Restore the file, or "
            "start a new run.",
            ErrorCode.RUN_FOLDER_DAMAGED,
        ) from None
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
        """Add an event. It is written at once, so that lines of several processes do not mix.

        Raises:
            RunFolderError: the disk is full or cannot be written.
        """
        with disk_errors(self._file.parent), self._file.open("ab", buffering=0) as file:
            file.write(format_event(event))

    def read(self, position: int = 0) -> tuple[list[Event], int]:
        """The events behind a position, and the position behind them. An unfinished line does not count.

        Events of unknown kinds are left out.

        Args:
            position: in bytes, 0 or what an earlier call returned.

        Raises:
            RunFolderError: a line is not an event, or the format is too new.
        """
        try:
            with self._file.open("rb") as file:
                file.seek(position)
                whole, _, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return [], position
        parsed = (parse_event(line, self._file) for line in whole.splitlines())
        return [event for event in parsed if event], position + len(whole) + 1 if whole else position

    def truncate_unfinished_line(self) -> None:
        """Remove a line that a killed process did not finish: the next event would be lost with it."""
        if self._file.exists():
            with self._file.open("r+b") as file:
                whole = file.read().rpartition(b"\n")
                file.truncate(len(whole[0] + whole[1]))
