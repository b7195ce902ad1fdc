"""Keeps one of Flower's programs running: starts it again when it ends, and ends it with this process."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from coldfusion_fl.process_tree import ProcessTree

_POLL_INTERVAL = 0.5  # seconds
_FIRST_PAUSE = 1.0
_MAX_PAUSE = 10.0
# After this many seconds a program counts as healthy: when it ends, the pause starts from the first one again.
_HEALTHY_AFTER = 60.0
_GRACE = 10.0
_MAX_LOG_BYTES = 50_000_000
_TAIL_BYTES = 4_000
_LAST_LINES = 5
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_INFO = re.compile(r"INFO\b")
# Without these, Flower installs an app's dependencies for each run, sends telemetry and looks for updates.
FLOWER_ENVIRONMENT = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Supervisor:
    """Starts a program, and starts it again each time it ends, until it is stopped itself.

    Args:
        command: called before each start; returns the program and its arguments.
        environment: environment variables of the program, beside those of this process.
        log_file: the file for its output.
        log: called with a line each time the program ends.
    """

    def __init__(
        self,
        command: Callable[[], Sequence[str]],
        environment: Mapping[str, str],
        log_file: Path,
        log: Callable[[str], None],
    ) -> None:
        self._command = command
        # Flower's programs start each other by name, and they are installed beside this Python.
        path = os.pathsep.join(filter(None, [str(Path(sys.executable).parent), os.environ.get("PATH")]))
        self._environment = {**os.environ, **FLOWER_ENVIRONMENT, **environment, "PATH": path}
        self._log_file = log_file
        self._log = log

    def run(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Keep the program running until SIGINT, SIGTERM or SIGHUP, then end it with all its descendants.

        Args:
            meanwhile: called twice a second while the program runs.
        """
        with _stop_on_signal():
            try:
                self._restart_forever(meanwhile)
            except KeyboardInterrupt:
                self._log("Stopped.")

    def _restart_forever(self, meanwhile: Callable[[], None]) -> NoReturn:
        pause = _FIRST_PAUSE
        while True:
            began, position = time.monotonic(), self._log_file.stat().st_size if self._log_file.exists() else 0
            code = self._run_once(meanwhile)
            pause = _FIRST_PAUSE if time.monotonic() - began > _HEALTHY_AFTER else min(2 * pause, _MAX_PAUSE)
            self._log(
                f"Flower exited with code {code}. Restarting it in {pause:.0f} s. The last lines of {self._log_file}:"
            )
            for line in last_lines(self._log_file, position):
                self._log(f"    {line}")
            time.sleep(pause)

    def _run_once(self, meanwhile: Callable[[], None]) -> int:
        # In a session of its own: Ctrl-C must reach this process alone, which ends the program in order.
        with self._log_file.open("ab") as log_file:
            process = subprocess.Popen(
                self._command(),
                env=self._environment,
                stdout=log_file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            while process.poll() is None:
                meanwhile()
                _rotate_log(self._log_file)
                time.sleep(_POLL_INTERVAL)
            return process.returncode
        finally:
            ProcessTree(process).end(_GRACE)


def last_lines(log_file: Path, position: int = 0) -> list[str]:
    """The last lines of a log that explain why the program ended, without terminal colours.

    Args:
        log_file: the log.
        position: the offset of the first byte to read; ignored where the log has been rotated since.
    """
    size = log_file.stat().st_size
    with log_file.open("rb") as file:
        file.seek(max(position if position <= size else 0, size - _TAIL_BYTES))
        text = _COLOURS.sub("", file.read().decode(errors="replace"))
    lines = [line for line in text.splitlines() if line.strip()]
    # Flower and its web server log many INFO lines while they shut down, which do not tell the cause.
    important = [line for line in lines if not _INFO.match(line)]
    return (important or lines)[-_LAST_LINES:]


def _rotate_log(log_file: Path) -> None:
    """Move the contents of a large log to `.1`. Lines that are written at the same moment may be lost.

    `logging.handlers.RotatingFileHandler` renames the file, but the running program holds it open and would go on
    writing to the renamed one. So the file is copied and emptied.
    """
    with contextlib.suppress(OSError):  # such as a full disk, which the program itself reports
        if log_file.stat().st_size > _MAX_LOG_BYTES:
            shutil.copyfile(log_file, log_file.with_name(f"{log_file.name}.1"))
            os.truncate(log_file, 0)


def program(module: str) -> list[str]:
    """The command that runs a module with this Python."""
    return [sys.executable, "-P", "-m", module]


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into KeyboardInterrupt, as SIGINT; after the first signal, ignore the others."""

    def stop(*_: object) -> NoReturn:
        for number in _STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in _STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
