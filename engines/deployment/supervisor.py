"""Keeps one of Flower's programs running: starts it again when it ends, and ends it with this process."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from coldfusion_fl.errors import DeploymentError, ErrorCode
from coldfusion_fl.process_tree import ProcessTree, exit_with_parent, find_processes, wait_for_ends

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
# How long the programs of a supervisor that was killed may take to notice it and to end.
_MAX_LEFTOVER = _GRACE + 10.0
_SUPERVISOR = "COLDFUSION_SUPERVISOR_PID"
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_INFO = re.compile(r"INFO\b")
# Without these, Flower installs an app's dependencies for each run, sends telemetry and looks for updates.
_FLOWER_ENVIRONMENT = {
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class Supervisor:
    """Starts a program, and starts it again each time it ends, until it is stopped itself.

    Args:
        command: called before each start; returns the program and its arguments. The program calls
            `exit_with_supervisor` first of all.
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
        self._environment = {**flower_environment(), **environment, _SUPERVISOR: str(os.getpid())}
        self._log_file = log_file
        self._log = log

    def run(
        self, meanwhile: Callable[[], None] = lambda: None, before_restart: Callable[[], None] = lambda: None
    ) -> None:
        """Keep the program running until SIGINT, SIGTERM or SIGHUP, then end it with all its descendants.

        Args:
            meanwhile: called twice a second while the program runs.
            before_restart: called each time the program has ended. It may wait until a restart can succeed, or raise an
                error, which ends the supervision.
        """
        with _stop_on_signal():
            try:
                self._restart_forever(meanwhile, before_restart)
            except KeyboardInterrupt:
                self._log("Stopped.")

    def _restart_forever(self, meanwhile: Callable[[], None], before_restart: Callable[[], None]) -> NoReturn:
        pause = _FIRST_PAUSE
        while True:
            began, position = time.monotonic(), self._log_file.stat().st_size if self._log_file.exists() else 0
            code = self._run_once(meanwhile)
            pause = _FIRST_PAUSE if time.monotonic() - began > _HEALTHY_AFTER else min(2 * pause, _MAX_PAUSE)
            self._log(f"Flower exited with code {code}. The last lines of {self._log_file}:")
            for line in last_lines(self._log_file, position):
                self._log(f"    {line}")
            before_restart()
            self._log(f"Restarting it in {pause:.0f} s.")
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


def flower_environment() -> dict[str, str]:
    """The environment of one of Flower's programs."""
    # They start each other by name, and they are installed beside this Python.
    path = os.pathsep.join(filter(None, [str(Path(sys.executable).parent), os.environ.get("PATH")]))
    return {**os.environ, **_FLOWER_ENVIRONMENT, "PATH": path}


def exit_with_supervisor() -> None:
    """In a supervised program: end it with all that it started when its supervisor ends, also by SIGKILL."""
    # The variable is not for the programs that this one starts.
    if supervisor := os.environ.pop(_SUPERVISOR, None):
        exit_with_parent(int(supervisor), _GRACE)


def end_process_after(run: Callable[[], object], clean_up: Callable[[], object] = lambda: None) -> NoReturn:
    """Run one of Flower's programs in this process, and end the process with it in every case.

    Args:
        run: the program.
        clean_up: called when it has ended.
    """
    code: object = 0
    try:
        run()
    except SystemExit as exit_:
        code = exit_.code
    except BaseException:
        traceback.print_exc()
        code = 1
    clean_up()
    end_process(code if isinstance(code, int) else int(code is not None))


def end_process(code: int) -> NoReturn:
    """End this process at once, also if threads of it do not end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def wait_for_leftover(program: str, words: Sequence[str], log: Callable[[str], None]) -> None:
    """Wait until no process is left of a supervisor that was killed: a second one would disturb the first.

    Args:
        program: the name of the program, for messages.
        words: arguments that only the processes of this federation or member have.
        log: called with a line if there is something to wait for.

    Raises:
        DeploymentError: a process does not end, such as one of a version that does not watch its supervisor.
    """
    left = find_processes(*words)
    if not left:
        return
    numbers = " ".join(str(process.pid) for process in left)
    log(f"A {program} of an earlier start is still running (process {numbers}). Waiting for its end.")
    if wait_for_ends(left, _MAX_LEFTOVER):
        raise DeploymentError(
            f"a {program} of an earlier start is still running, and does not end by itself: process {numbers}. "
            f"End it: kill {numbers}",
            code=ErrorCode.PROCESS_LEFT,
        )


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
