"""Start a run in a process of its own, follow its events, and end it with all processes that it started."""

import contextlib
import datetime
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from coldfusion_fl.errors import RunError, from_message
from coldfusion_fl.execution.engine import Progress, load_engine
from coldfusion_fl.execution.log_file import LOG, append_line, clean, now
from coldfusion_fl.execution.run_paths import resume_command
from coldfusion_fl.process_tree import ProcessTree
from coldfusion_fl.runs.events import Event, RunFailed, RunFinished, RunStarted
from coldfusion_fl.runs.ledger import Ledger

_GRACE = 3.0
_POLL_INTERVAL = 0.25
_MEMORY_INTERVAL = 5.0
# A longer line is split: a program may write megabytes without a line break.
_LONGEST_LINE = 2**16
# Of every run process, whichever engine runs in it.
_ENVIRONMENT = {
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
    # Large allocations in huge pages: runs took 10 % less time, and no more memory.
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}


class RunProcess:
    """A run in a process of its own. As a context manager, it ends the process when the block ends.

    The process starts to load libraries and to check the settings at once. `start` then begins the run.

    Args:
        table: the run's settings as nested tables, from `settings.to_table`.
        source: the file they were read from, for messages.
        engine: the entry point of the engine that executes the run.
        args: the engine's arguments.

    Attributes:
        peak_memory: the highest memory of the process and its descendants so far, in bytes.

    Raises:
        SettingsError: the engine is unknown.
    """

    def __init__(
        self, table: dict[str, Any], source: str, engine: str = "simulation", args: Sequence[str] = ()
    ) -> None:
        loaded = load_engine(engine, args)
        self.peak_memory = 0
        self._may_linger = loaded.may_linger
        self._ledger: Ledger | None = None
        read_end, write_end = os.pipe()
        worker = [sys.executable, "-P", "-m", "coldfusion_fl.execution.worker"]
        self._process = subprocess.Popen(
            [*worker, engine, str(os.getpid()), str(write_end), *args],
            stdin=subprocess.PIPE,
            pass_fds=[write_end],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**_ENVIRONMENT, **loaded.environment, **os.environ},
            # Ctrl-C must reach this process alone, which then ends the run process and its children in order.
            start_new_session=True,
        )
        self._tree = ProcessTree(self._process)
        assert self._process.stdout
        self._output = _Output(self._process.stdout)
        os.close(write_end)
        self._check_result = os.fdopen(read_end)
        self._send({"settings": table, "source": source})

    def __enter__(self) -> "RunProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._output.close()
        self._check_result.close()
        with contextlib.suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()

    def wait_for_checks(self, progress: Progress = lambda line: None) -> list[str]:
        """Wait until the engine has checked the settings, the tasks and the base.

        Args:
            progress: called with a line about the work so far.

        Returns:
            Lines for the user: what was found, and what the run needs.

        Raises:
            ColdFusionError: the error that the checks found.
            RunError: the process ended during the checks.
        """
        for line in self._check_result:
            message = json.loads(line)
            if "error" in message:
                raise from_message(message["error"])
            if "notes" in message:
                notes: list[str] = message["notes"]
                return notes
            progress(message["progress"])
        self.stop()
        self._output.close()
        output = "\n".join(self._output.early_lines).strip()
        raise RunError(
            f"the run's process ended with code {self.exit_code} before the run began. Its output:\n{output}"
        )

    def start(self, ledger: Ledger) -> None:
        """Begin the run.

        Args:
            ledger: the run folder, from `Ledger.create` or `Ledger.resume`.
        """
        self._ledger = ledger
        self._output.write_to(ledger.folder / LOG)
        _, self._position = ledger.events_from(0)  # a resumed run's earlier events are not shown again
        ledger.emit(RunStarted())
        self._send(str(ledger.folder))

    def events(self) -> Iterator[Event | None]:
        """The run's events as they occur, until the process ends.

        Yields:
            An event, or None when there is no further one at the moment.
        """
        assert self._ledger, "start() begins the run"
        position, measured, deadline = self._position, 0.0, math.inf
        while True:
            # Whether it has ended is asked before the events are read, so that the last ones are not missed.
            ended = self._process.poll() is not None or time.monotonic() > deadline
            events, position = self._ledger.events_from(position)
            yield from events
            # A simulation ends only after all its contributors, also those that the run gave up. Do not wait for them.
            if self._may_linger and any(isinstance(event, RunFinished | RunFailed) for event in events):
                deadline = time.monotonic() + _GRACE
            # The state is the last thing that a run writes. One that failed logs its error afterwards.
            if ended or (deadline < math.inf and self._ledger.state.state == "finished"):
                return
            yield None
            if time.monotonic() - measured > _MEMORY_INTERVAL:
                measured = time.monotonic()
                self.peak_memory = max(self.peak_memory, self._tree.memory())
            time.sleep(_POLL_INTERVAL)

    @property
    def exit_code(self) -> int | None:
        """The exit code of the process; None while it runs."""
        return self._process.poll()

    def conclude(self, ledger: Ledger) -> None:
        """End the process after its last event, and write how the run ended.

        Raises:
            RunError: the run failed; the message has the reason, the log and how to resume.
        """
        code = self.exit_code
        if self._may_linger:  # what it still does, such as waiting for contributors, changes nothing
            self._tree.kill(_GRACE)
        else:
            self.stop()
        if code or ledger.state.state != "finished":
            reason = ledger.state.reason or f"its process ended with code {code}"
            ledger.state_file.failed(reason)
            raise RunError(
                f"the run failed: {reason}\nThe log is {ledger.folder / LOG}\nTo resume it after its last "
                f"complete round: {resume_command(ledger)}"
            )
        ledger.state_file.finished(peak_memory_bytes=self.peak_memory)

    def stop(self) -> None:
        """End the process and everything that it started, within seconds."""
        # The engine may have work at a server to stop, so it gets the signal first, and its children none.
        self._tree.end(_GRACE, root_first=True)

    def _send(self, message: object) -> None:
        with contextlib.suppress(BrokenPipeError):  # the process has ended; `exit_code` tells how
            if self._process.stdin:
                self._process.stdin.write(json.dumps(message).encode() + b"\n")
                self._process.stdin.flush()


class _Output:
    """Copies the output of the run process to the log of the run folder, once this is known.

    Flower, Ray and the libraries of the contributors write it, each in its own way: some with colours, few with times.
    So each line gets the time at which it came, and loses what is not text. It is copied in this process, which is
    alive when the run process crashes.

    Args:
        stream: the standard output of the run process.

    Attributes:
        early_lines: the lines that came before the log was known, without their times.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.early_lines: list[str] = []
        self._early_times: list[datetime.datetime] = []
        self._stream = stream
        self._log: Path | None = None
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._copy, daemon=True)
        self._thread.start()

    def write_to(self, log: Path) -> None:
        """Write all lines to a file, those that came before too."""
        with self._lock:
            self._log = log
            for moment, line in zip(self._early_times, self.early_lines, strict=True):
                append_line(log, moment, line)

    def close(self) -> None:
        """Copy the rest. The process and its descendants have ended."""
        self._thread.join(_GRACE)
        if not self._thread.is_alive():  # if it is, a process that left the process tree still has the stream
            self._stream.close()

    def _copy(self) -> None:
        while raw := self._stream.readline(_LONGEST_LINE):
            moment = now()
            # A progress bar returns to the start of its line: only what it showed last is of interest.
            text = raw.decode(errors="replace").rstrip("\r\n").rpartition("\r")[2]
            line = clean(text)
            with self._lock:
                if self._log:
                    append_line(self._log, moment, line)
                else:
                    self._early_times.append(moment)
                    self.early_lines.append(line)
