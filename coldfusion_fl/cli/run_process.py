"""A run in a process of its own: start it, follow it, end it with all that it started."""

import contextlib
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from coldfusion_fl import errors
from coldfusion_fl.errors import RunError
from coldfusion_fl.run.ledger import Ledger

# The programs are named, not imported: the core knows nothing of Flower.
_SIMULATION = "coldfusion_fl.engines.simulation"
_FEDERATION = "coldfusion_fl.engines.deployment.federation_run"
_GRACE = 3.0
_POLL = 0.25
_MEMORY_EVERY = 5.0


class RunProcess:
    """A run in a process of its own: as a context, it ends with it.

    The process checks the settings while it gets ready, and begins when it is told of its run folder.

    Args:
        table: the run's settings, as `settings.to_table` gives them.
        source: where they stand, for messages.
        federation: the folder of the federation that is to run it; None: a simulation on this machine.
    """

    def __init__(self, table: dict[str, Any], source: str, federation: Path | None = None) -> None:
        self.peak_memory = 0
        self._descendants: dict[int, psutil.Process] = {}
        # What the process prints before it knows its run folder.
        self._early_log = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        fcntl.fcntl(self._early_log, fcntl.F_SETFL, fcntl.fcntl(self._early_log, fcntl.F_GETFL) | os.O_APPEND)
        self._ledger: Ledger | None = None
        answers, answer = os.pipe()
        module, words = (_SIMULATION, []) if federation is None else (_FEDERATION, [str(federation)])
        # Flower's simulation waits for every contributor, also for one that the rounds have long given up.
        self._lingers = federation is None
        quiet = {
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            "RAY_USAGE_STATS_ENABLED": "0",
            "FLWR_TELEMETRY_ENABLED": "0",
            "TOKENIZERS_PARALLELISM": "false",
            "PYTHONUNBUFFERED": "1",
            # Large pieces of memory in huge pages: a run took a tenth less time, and no more memory.
            "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(os.getpid()), str(answer), *words],
            stdin=subprocess.PIPE,
            pass_fds=[answer],
            stdout=self._early_log,
            stderr=subprocess.STDOUT,
            env={**quiet, **os.environ},
            # Ctrl-C is for us: we say where the run stopped, and end the process and Ray in order.
            start_new_session=True,
        )
        os.close(answer)
        self._answers = os.fdopen(answers)
        self._tell({"settings": table, "source": source})

    def __enter__(self) -> "RunProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        if self._ledger and (said := self._said_early()):
            # It ended before it took its log over.
            with contextlib.suppress(OSError), (self._ledger.folder / "log.txt").open("ab") as log:
                log.write(said)
        self._early_log.close()
        self._answers.close()
        with contextlib.suppress(OSError):
            if self._process.stdin:
                self._process.stdin.close()

    def wait_for_checks(self) -> None:
        """Wait until the tasks and the base are read.

        Raises:
            ColdFusionError: what is wrong with them, as `checks.check_contents` says it.
            RunError: the process ended.
        """
        if line := self._answers.readline():
            if wrong := json.loads(line):
                raise getattr(errors, wrong["class"])(wrong["message"])
            return
        self.stop()
        said = self._said_early().decode(errors="replace").strip()
        raise RunError(f"the run's process ended with code {self.exit_code} before it began. It said:\n{said}")

    def begin(self, ledger: Ledger) -> None:
        """Let it begin.

        Args:
            ledger: the run's folder, which `Ledger.create` or `Ledger.resume` has made ready.
        """
        self._ledger = ledger
        _, self._place = ledger.events_from(0)  # what a run that goes on has told before is not told again
        ledger.event("began")
        self._tell(str(ledger.folder))

    def _said_early(self) -> bytes:
        descriptor = self._early_log.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)

    def _tell(self, what: object) -> None:
        pipe = self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # it has ended; `exit_code` says how
            if pipe:
                pipe.write(json.dumps(what).encode() + b"\n")
                pipe.flush()

    def events(self) -> Iterator[dict[str, Any] | None]:
        """The run's events as they come, and None when there is none just now, until it ends.

        A simulation that said it is finished or has failed gets a moment to end its process, no more.
        """
        assert self._ledger  # it has begun
        place, measured, deadline = self._place, 0.0, math.inf
        while True:
            ended = self._process.poll() is not None or time.monotonic() > deadline
            events, place = self._ledger.events_from(place)
            yield from events
            if self._lingers and any(event["kind"] in ("finished", "failed") for event in events):
                deadline = time.monotonic() + _GRACE
            if ended:
                return
            yield None
            if time.monotonic() - measured > _MEMORY_EVERY:
                measured = time.monotonic()
                self.peak_memory = max(self.peak_memory, self._state())
            time.sleep(_POLL)

    @property
    def exit_code(self) -> int | None:
        """Of the process; None while it runs."""
        return self._process.poll()

    def stop(self) -> None:
        """End the process and everything that it started, within seconds."""
        self._remember_descendants()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)
        self._remember_descendants()
        left = [process for process in self._descendants.values() if process.is_running()]
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=_GRACE)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)

    def _remember_descendants(self) -> None:
        """Remember the descendants: when a parent among them dies, its children can no longer be found."""
        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(self._process.pid)
            for process in [parent, *parent.children(recursive=True)]:
                self._descendants[process.pid] = process

    def _state(self) -> int:
        """Bytes of the process and its descendants; what they share is counted once, where the system can tell."""
        self._remember_descendants()
        total = 0
        for process in list(self._descendants.values()):
            with contextlib.suppress(psutil.Error):
                info = process.memory_full_info()
                total += getattr(info, "pss", info.uss)
        return total
