"""The file `progress.jsonl` of a run folder: events, one a line, appended by several processes."""

from pathlib import Path

from coldfusion_fl.atomic_files import disk_errors
from coldfusion_fl.run.events import Event, format_event, parse_event


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

        Args:
            position: in bytes, 0 or what an earlier call returned.

        Raises:
            RunFolderError: a line is not an event.
        """
        try:
            with self._file.open("rb") as file:
                file.seek(position)
                whole, _, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return [], position
        events = [parse_event(line, self._file) for line in whole.splitlines()]
        return events, position + len(whole) + 1 if whole else position

    def truncate_unfinished_line(self) -> None:
        """Remove a line that a killed process did not finish: the next event would be lost with it."""
        if self._file.exists():
            with self._file.open("r+b") as file:
                whole = file.read().rpartition(b"\n")
                file.truncate(len(whole[0] + whole[1]))
