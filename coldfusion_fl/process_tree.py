"""Processes and what they start: measure a process tree, end it, and end with the process that started this one."""

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterable
from typing import NoReturn

import psutil

_POLL = 1.0  # seconds
_END_POLL = 0.02  # seconds


class ProcessTree:
    """A process and all its descendants, also those whose parent has ended.

    Args:
        process: the root, started by this process with `start_new_session=True`.
    """

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._root = process
        self._descendants: dict[int, psutil.Process] = {}

    def refresh(self) -> None:
        """Note the present descendants: once a parent among them has ended, its children can no longer be found."""
        with contextlib.suppress(psutil.Error):
            for process in psutil.Process(self._root.pid).children(recursive=True):
                self._descendants[process.pid] = process

    def memory(self) -> int:
        """The memory of all processes in bytes; shared memory counts once where the system reports it (Linux: PSS)."""
        self.refresh()
        processes = list(self._descendants.values())
        with contextlib.suppress(psutil.Error):
            processes.append(psutil.Process(self._root.pid))
        total = 0
        for process in processes:
            with contextlib.suppress(psutil.Error):
                info = process.memory_full_info()
                total += getattr(info, "pss", info.uss)
        return total

    def end(self, grace: float, *, root_first: bool = False) -> None:
        """Send SIGTERM, and SIGKILL to the processes that are left after the grace period.

        Args:
            grace: seconds to wait after each signal.
            root_first: send SIGTERM to the root alone, which ends its own children in order; if not, to all processes.
        """
        self.refresh()
        if not root_first:
            # Each process once: after a first SIGTERM, Flower's programs are ended by a second one at once.
            others = [one for one in self._descendants.values() if not self._is_in_session(one)]
            self._signal_session(signal.SIGTERM)
            _terminate(others)
        elif self._root.poll() is None:
            self._root.terminate()
        self._wait(grace, root_alone=root_first)
        self.kill(grace)

    def kill(self, grace: float) -> None:
        """Send SIGKILL to all processes that are left.

        Args:
            grace: seconds to wait until they have ended.
        """
        # The root may have started more processes while it ended. Those of its session include some whose parent has
        # ended.
        self.refresh()
        self._signal_session(signal.SIGKILL)
        _kill(self._descendants.values())
        if self._root.poll() is None:
            self._root.kill()
        self._wait(grace)

    def _signal_session(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._root.pid, number)

    def _is_in_session(self, process: psutil.Process) -> bool:
        try:
            return os.getpgid(process.pid) == self._root.pid
        except OSError:  # it has ended
            return True

    def _wait(self, seconds: float, *, root_alone: bool = False) -> None:
        deadline = time.monotonic() + seconds
        # The root is waited for by `subprocess`, which must be the one to collect its exit code.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._root.wait(seconds)
        if not root_alone:
            wait_for_ends(self._descendants.values(), deadline - time.monotonic())


def kill_own_tree() -> NoReturn:
    """End this process and all its descendants at once, with exit code 1."""
    _kill(psutil.Process().children(recursive=True))
    os._exit(1)


def exit_with_parent(parent: int, grace: float = 0.0) -> None:
    """Watch, in a thread, whether the process that started this one is alive; end this process tree when it is not.

    This works also where the parent is killed by SIGKILL and cannot end its children.

    Args:
        parent: the process ID of the parent.
        grace: seconds that this process has after a SIGTERM, for example to sign off from a server. Its descendants
            end at once. 0: it ends at once, too.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL)
        if grace:
            _kill(psutil.Process().children(recursive=True))
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(grace)
        kill_own_tree()

    threading.Thread(target=watch, daemon=True).start()


def find_processes(*words: str) -> list[psutil.Process]:
    """The processes of this machine whose arguments contain all of these words."""
    wanted = set(words)
    return [
        process
        for process in psutil.process_iter(["cmdline", "create_time"])
        if wanted <= set(process.info["cmdline"] or ())  # None: the process belongs to somebody else
    ]


def wait_for_ends(processes: Iterable[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait until processes have ended; returns those that have not.

    A zombie has ended: it holds no memory and no file. `psutil.wait_procs` would wait until its parent collects its
    exit code. If the parent has ended, the first process of the machine or container does that, seconds later or never.

    Args:
        processes: the processes.
        timeout: seconds.
    """
    deadline = time.monotonic() + timeout
    left = [process for process in processes if _is_alive(process)]
    while left and time.monotonic() < deadline:
        time.sleep(_END_POLL)
        left = [process for process in left if _is_alive(process)]
    return left


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _terminate(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()


def _kill(processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
