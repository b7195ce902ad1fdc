"""Follows the log of a node's messages, which other processes write."""

import contextlib
from collections.abc import Callable
from pathlib import Path

_WORDS_OF_TIME = 2  # a date and a time


class LogFollower:
    """Passes on each line that is added to a log.

    Args:
        file: the log, which need not exist. When it is rotated, its lines are moved to a file that ends with `.1`.
        log: called with each new line, without the time.
    """

    def __init__(self, file: Path, log: Callable[[str], None]) -> None:
        self._file = file
        self._log = log
        self._position = self._size()

    def update(self) -> None:
        """Pass on the lines since the last call. It may be called often."""
        with contextlib.suppress(OSError):  # such as a file that is rotated at this moment
            if self._size() < self._position:
                with contextlib.suppress(OSError):  # there is none, because the log was emptied or removed
                    self._pass_on(self._file.with_name(f"{self._file.name}.1"))
                self._position = 0
            self._pass_on(self._file)

    def _size(self) -> int:
        return self._file.stat().st_size if self._file.exists() else 0

    def _pass_on(self, file: Path) -> None:
        with file.open("rb") as lines:
            lines.seek(self._position)
            whole, _, _ = lines.read().rpartition(b"\n")
        if whole:
            self._position += len(whole) + 1
            for line in whole.decode(errors="replace").splitlines():
                self._log(line.split(" ", _WORDS_OF_TIME)[-1])
