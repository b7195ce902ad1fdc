"""Starts a process for each message to a member: a copy of one that has loaded PyTorch and transformers already.

Flower itself starts a new Python for each message, which takes seconds of processor time to load these libraries. Here
Python's fork server loads them once. It does not compute with them: after the first use of CUDA, a process cannot be
copied. Numpy and pyarrow have threads there, which a copy lacks; these libraries start them again.

`python -m coldfusion_fl.engines.deployment.member.executor` takes the arguments of `flower-superexec` for a SuperNode
without TLS on this machine.
"""

import multiprocessing
import shutil
import sys
import tempfile
from logging import WARNING
from multiprocessing import forkserver, util
from multiprocessing.process import BaseProcess
from typing import Any

from flwr.common import log

from coldfusion_fl.engines.deployment.supervisor import end_process_after
from coldfusion_fl.engines.flower_internals import (
    LaunchResult,
    SubprocessExecutor,
    flower_superexec,
    run_clientapp,
    run_superexec,
)

_PRELOADED = "coldfusion_fl.engines.deployment.member.preloaded"
_CLIENT_APP = "flwr-clientapp"
# The path of a socket has at most 107 bytes, of which Python's names for folder and socket need about 35.
_LONGEST_FOLDER = 70


class ForkExecutor(SubprocessExecutor):
    """Flower's executor of a SuperNode, with processes of the fork server."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([_PRELOADED])
        forkserver.ensure_running()  # it loads the modules while the member connects
        self._processes: list[BaseProcess] = []

    def launch(self, spec: Any) -> Any:
        """Start the process that handles a message.

        Args:
            spec: Flower's description of the task.
        """
        if spec.task_type != _CLIENT_APP:
            return super().launch(spec)
        process = self._context.Process(target=_handle_message, args=(spec.runtime_api_address, spec.token))
        try:
            process.start()
        except (OSError, EOFError) as failure:  # such as too little memory
            return LaunchResult.failed(f"{type(failure).__name__}: {failure}")
        self._processes.append(process)
        return LaunchResult.accepted()

    def reconcile(self) -> None:
        """Forget processes that have ended, and log those that were killed."""
        running = []
        for process in self._processes:
            code = process.exitcode
            if code is None:
                running.append(process)
            elif code < 0:
                log(WARNING, "A process that handled a message was killed by signal %d.", -code)
        self._processes = running


def _handle_message(address: str, token: str) -> None:
    sys.argv = [_CLIENT_APP]  # Flower looks there for what it is when it exits
    run_clientapp(address, token, insecure=True, parent_pid=multiprocessing.parent_process().pid)  # type: ignore[union-attr]


def main() -> None:
    """Run Flower's SuperExec with this executor; it does not wait for processes that handle messages."""
    if len(tempfile.gettempdir()) > _LONGEST_FOLDER:
        tempfile.tempdir = "/tmp"
    run_superexec.get_executor = lambda *_, **__: ForkExecutor()
    # The process ends without multiprocessing's own clean-up, which would wait for a training.
    end_process_after(flower_superexec, lambda: shutil.rmtree(util.get_temp_dir(), ignore_errors=True))


if __name__ == "__main__":
    main()
