"""A shell in which the commands of a page are typed one after the other."""

import contextlib
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import psutil

# No command of a page takes longer, also on a busy machine.
_SECONDS = 500
# Seconds in which processes may end by themselves after the last command.
_GRACE = 30


class Shell:
    """A running bash, whose jobs, variables and folder last from one command to the next.

    Args:
        folder: where it starts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._mark = uuid.uuid4().hex
        self._process = subprocess.Popen(
            [shutil.which("bash")],
            cwd=folder,
            env={**os.environ, "PATH": programs, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self.run("set -m")  # jobs are process groups, and can be ended by their numbers, as in a terminal

    def run(self, command: str) -> str:
        """Run a command, which must exit with 0.

        Returns:
            What it printed, and what the jobs in the background printed meanwhile.
        """
        # In a group, so that no command reads what is typed next.
        self._process.stdin.write(f"{{ {command}\n}} </dev/null\nprintf '\\n{self._mark} %d\\n' $?\n")
        self._process.stdin.flush()
        printed, deadline = [], time.monotonic() + _SECONDS
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"{command}\ntook more than {_SECONDS} s:\n{''.join(printed)}") from None
            assert line is not None, f"{command}\nended the shell:\n{''.join(printed)}"
            if ended := re.fullmatch(rf"{self._mark} (\d+)\n", line):
                assert ended[1] == "0", f"{command}\nexited with {ended[1]}:\n{''.join(printed)}"
                return "".join(printed)
            printed.append(line)

    def close(self) -> list[str]:
        """End the shell and all that it has started; the names of the processes that were still running."""
        self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        # On a busy machine, the last process of a server that has been stopped needs some seconds more.
        _, left = psutil.wait_procs(self._started(), timeout=_GRACE)
        names = [one.info["name"] for one in left]
        while left:  # a supervisor may have started another process meanwhile
            for one in left:
                with contextlib.suppress(psutil.Error):
                    one.kill()
            psutil.wait_procs(left, timeout=10)
            left = self._started()
        self._process.kill()
        self._process.wait()
        return names

    def _started(self) -> list[psutil.Process]:
        """The processes that work in the folder, or are called with a path in it."""
        found = [one for one in psutil.process_iter(["cwd", "cmdline", "name", "status"]) if one.pid != os.getpid()]
        return [one for one in found if one.info["status"] != psutil.STATUS_ZOMBIE and self._is_inside(one.info)]

    def _is_inside(self, facts: dict[str, Any]) -> bool:
        paths = [facts["cwd"] or "", *(facts["cmdline"] or [])]
        return any(Path(path).is_relative_to(self.folder) for path in paths)

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)
