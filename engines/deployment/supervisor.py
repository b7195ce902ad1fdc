"""Keeps one of Flower's programs running: started again when it ends, ended with us."""

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

import psutil

_POLL = 0.5
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 10.0
# A program that ran for so long was well: if it ends it may start again at once.
_WELL = 60.0
_GRACE = 10.0
_LARGE = 50_000_000
_TAIL = 4_000
_LAST_LINES = 5
_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_INFO = re.compile(r"INFO\b")
# Flower would install an app's dependencies for each run, and tells its makers of each start.
FLOWER_ENVIRONMENT = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Supervisor:
    """A program that runs until it is stopped, however often it ends.

    Args:
        command: the program and its words, asked for before each start.
        environment: what its environment has beside ours.
        log_file: where it prints.
        log: told of each end.
    """

    def __init__(
        self,
        command: Callable[[], Sequence[str]],
        environment: Mapping[str, str],
        log_file: Path,
        log: Callable[[str], None],
    ) -> None:
        self._command = command
        # Flower's programs, which lie beside this Python, start others of them by name.
        path = os.pathsep.join(filter(None, [str(Path(sys.executable).parent), os.environ.get("PATH")]))
        self._environment = {**os.environ, **FLOWER_ENVIRONMENT, **environment, "PATH": path}
        self._log_file = log_file
        self._log = log

    def run(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Keep it running until Ctrl-C or a polite kill, which end it and all that it started.

        Args:
            meanwhile: called twice a second while it runs.
        """
        with _stop_on_signal():
            try:
                self._keep(meanwhile)
            except KeyboardInterrupt:
                self._log("Stopped.")

    def _keep(self, meanwhile: Callable[[], None]) -> NoReturn:
        pause = _FIRST_PAUSE
        while True:
            began, place = time.monotonic(), self._log_file.stat().st_size if self._log_file.exists() else 0
            code = self._once(meanwhile)
            pause = _FIRST_PAUSE if time.monotonic() - began > _WELL else min(2 * pause, _LONGEST_PAUSE)
            self._log(
                f"It ended with code {code}, and is started again in {pause:.0f} s. Its last lines, in "
                f"{self._log_file}:"
            )
            for line in last_lines(self._log_file, place):
                self._log(f"    {line}")
            time.sleep(pause)

    def _once(self, meanwhile: Callable[[], None]) -> int:
        # Its own session: Ctrl-C is for us, and we end it in order.
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
                time.sleep(_POLL)
            return process.returncode
        finally:
            kill_process_tree(process.pid)


def kill_process_tree(pid: int) -> None:
    """End a process and its descendants: politely, then not; orphans of its session at once."""
    try:
        parent = psutil.Process(pid)
        descendants = [*parent.children(recursive=True), parent]
    except psutil.NoSuchProcess:
        descendants = []
    with contextlib.suppress(ProcessLookupError):  # orphans of its session, whose parent is gone
        os.killpg(pid, signal.SIGTERM)
    for process in descendants:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, left = psutil.wait_procs(descendants, timeout=_GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=_GRACE)


def last_lines(log_file: Path, place: int = 0) -> list[str]:
    """The last few lines of a log that tell why it ended, without what colours a terminal.

    Args:
        log_file: the log.
        place: where in it to begin, in bytes; the log may have been put by since.
    """
    size = log_file.stat().st_size
    with log_file.open("rb") as file:
        file.seek(max(place if place <= size else 0, size - _TAIL))
        text = _COLOURS.sub("", file.read().decode(errors="replace"))
    lines = [line for line in text.splitlines() if line.strip()]
    # Flower and its web server say a lot while they shut down, whatever the cause.
    telling = [line for line in lines if not _INFO.match(line)]
    return (telling or lines)[-_LAST_LINES:]


def _rotate_log(log_file: Path) -> None:
    """Put a log by that has grown large, while it is being appended to; lines of that moment may be lost."""
    with contextlib.suppress(OSError):  # a full disk has worse to tell
        if log_file.stat().st_size > _LARGE:
            shutil.copyfile(log_file, log_file.with_name(f"{log_file.name}.1"))
            os.truncate(log_file, 0)


def program(module: str) -> list[str]:
    """The words that run a module of ours with this Python."""
    return [sys.executable, "-P", "-m", module]


@contextlib.contextmanager
def _stop_on_signal() -> Iterator[None]:
    """A polite kill, or the terminal's end, is as good as Ctrl-C; while the first takes effect, others have none."""

    def stop(*_: object) -> NoReturn:
        for number in _STOPS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in _STOPS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
