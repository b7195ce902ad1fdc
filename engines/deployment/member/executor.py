"""Starts a process for each message to a member: a copy of one that has loaded PyTorch and transformers already.

`python -m coldfusion_fl.engines.deployment.member.executor` takes the arguments of `flower-superexec`. Flower itself
starts a new Python for each message, which takes seconds of processor time to load these libraries. Here Python's fork
server loads them once. It never uses them itself: after the first use of CUDA, a process cannot be copied.
"""

import multiprocessing
import os
import sys
from multiprocessing import forkserver
from typing import Any

from coldfusion_fl.engines.flower_internals import (
    LaunchResult,
    SubprocessExecutor,
    flower_superexec,
    run_clientapp,
    run_superexec,
)

_PRELOADED = "coldfusion_fl.engines.deployment.member.preloaded"


class ForkExecutor(SubprocessExecutor):
    """Flower's executor, with processes of the fork server."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload([_PRELOADED])
        forkserver.ensure_running()  # it loads the modules while the member connects

    def launch(self, spec: Any) -> Any:
        """Start the process that handles a message.

        Args:
            spec: Flower's description of the task.
        """
        arguments = (spec.runtime_api_address, spec.token, spec.insecure, spec.parent_pid)
        self._context.Process(target=_handle_message, args=arguments).start()
        return LaunchResult.accepted()

    def reconcile(self) -> None:
        """Forget processes that have ended."""
        multiprocessing.active_children()


def _handle_message(address: str, token: str, insecure: bool, parent: int | None) -> None:
    sys.argv = ["flwr-clientapp"]  # Flower looks there for what it is when it exits
    run_clientapp(address, token, insecure, parent_pid=parent)


def main() -> None:
    """Run Flower's SuperExec with this executor; the process ends without waiting for those that handle messages."""
    run_superexec.get_executor = lambda *_, **__: ForkExecutor()
    code: object = 0
    try:
        flower_superexec()
    except SystemExit as exit_:
        code = exit_.code
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()
