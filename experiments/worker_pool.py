"""A pool of processes that train and score, for an experiment's jobs."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

import torch

from coldfusion_fl.errors import ErrorCode, RunError
from coldfusion_fl.process_tree import exit_with_parent

Job = TypeVar("Job")
Result = TypeVar("Result")


class WorkerPool:
    """Processes that do jobs in parallel. As a context manager, it ends them when the block ends.

    Args:
        processes: the number of processes.
        threads: the number of torch threads of each process.
    """

    def __init__(self, processes: int, threads: int) -> None:
        self._processes, self._threads = processes, threads
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPoolExecutor:
        arguments = (self._threads, os.getpid())
        return ProcessPoolExecutor(
            self._processes, mp_context=get_context("spawn"), initializer=_set_up_process, initargs=arguments
        )

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def do(self, work: Callable[[Job], Result], jobs: Sequence[Job]) -> Iterator[tuple[Job, Result]]:
        """Do jobs.

        Args:
            work: the function to call with each job; it must be importable.
            jobs: the jobs, which must be picklable.

        Yields:
            Each job with its result, in the order in which they finish.

        Raises:
            ColdFusionError: a job raised it.
            RunError: a process was killed. The pool has new processes afterwards.
        """
        try:
            waiting: dict[Future[Result], Job] = {self._pool.submit(work, job): job for job in jobs}
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BrokenProcessPool:
            self._pool.shutdown(wait=True)
            self._pool = self._new_pool()
            raise RunError(
                "a process that trained or scored was killed, perhaps for lack of memory. All results so far are kept: "
                "start the experiment again to continue.",
                code=ErrorCode.WORKERS_FAILED,
            ) from None


def _set_up_process(threads: int, parent: int) -> None:
    exit_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends the pool
    torch.set_num_threads(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
