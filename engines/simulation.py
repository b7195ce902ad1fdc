"""A run as a Flower simulation on Ray."""

import queue
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

import ray
from flwr.app import Context
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from coldfusion_fl.config.settings import SimulationSettings
from coldfusion_fl.engines.flower_internals import pool_size_from_resources
from coldfusion_fl.errors import ErrorCode, RunError, SettingsError, count

_CONNECT_TIMEOUT = 10.0  # seconds
_POLL_INTERVAL = 0.5  # seconds
# A message whose worker process dies is handled again by a new process, at most this many times.
MAX_RETRIES = 3


class Simulation:
    """Flower's simulation, to which work for its ServerApp is handed one piece at a time.

    So the same worker processes check a run's tasks before the run folder is written, and train afterwards: they load
    their libraries and read their rows once.

    Ray must be initialised. As a context manager, it ends the simulation when the block ends.

    Args:
        client_app: the contributors' app.
        nodes: the number of simulated nodes.
        share: the resources of each worker process.
    """

    def __init__(self, client_app: ClientApp, nodes: int, share: SimulationSettings) -> None:
        self._work: queue.Queue[Callable[[Grid], None] | None] = queue.Queue()
        self._crash: BaseException | None = None
        self._client_app = client_app
        self._nodes = nodes
        self._resources = _resources(share)
        self._thread = threading.Thread(target=self._simulate, daemon=True)
        self._thread.start()

    def __enter__(self) -> "Simulation":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def call(self, work: Callable[[Grid], Any]) -> Any:
        """Do a piece of work in the thread of the ServerApp, and return its result.

        Args:
            work: is called with Flower's grid.

        Raises:
            RunError: the simulation ended early.
            Exception: what `work` raised.
        """
        result: Future[Any] = Future()

        def do(grid: Grid) -> None:
            try:
                result.set_result(work(grid))
            except BaseException as error:  # the caller's to handle: Flower would replace it by an error of its own
                result.set_exception(error)

        self._work.put(do)
        while not wait([result], timeout=_POLL_INTERVAL).done:
            if not self._thread.is_alive() and not result.done():
                raise RunError(f"Flower's simulation ended early: {self._crash}", code=ErrorCode.WORKERS_FAILED)
        return result.result()

    def stop(self) -> None:
        """End the simulation, and wait until its workers have ended."""
        self._work.put(None)
        self._thread.join()

    def _simulate(self) -> None:
        server_app = ServerApp()

        @server_app.main()
        def main(grid: Grid, context: Context) -> None:
            while work := self._work.get():
                work(grid)

        try:
            run_simulation(
                server_app,
                self._client_app,
                num_supernodes=self._nodes,
                backend_config={"client_resources": self._resources},
            )
        except Exception as error:
            self._crash = error
            while self._crash.__cause__:  # Flower's own errors only say that there was one
                self._crash = self._crash.__cause__


def _resources(share: SimulationSettings) -> dict[str, Any]:
    """The options of Flower's Ray actors, which it calls client resources and hands to Ray as they are.

    By default Ray does not replace a dead actor, and Flower keeps it in its pool: it fails each message at once, so
    that it gets nearly all of them. With these options Ray starts a new process for the actor, and repeats its message.
    """
    return {"num_cpus": share.cpus, "num_gpus": share.gpus, "max_restarts": -1, "max_task_retries": MAX_RETRIES}


def count_workers(share: SimulationSettings) -> int:
    """The number of worker processes that fit on the machines of the simulation.

    Raises:
        SettingsError: not even one fits.
    """
    try:
        return pool_size_from_resources(_resources(share))
    except ValueError:
        raise SettingsError(
            f"no machine of the simulation has {count(share.cpus, 'core')} and {share.gpus:g} GPUs for a worker. Lower "
            "'simulation.cpus' or 'simulation.gpus'.",
            code=ErrorCode.WORKERS_FAILED,
        ) from None


def connect_ray(address: str, python: str = "") -> None:
    """Connect to Ray.

    Args:
        address: `HOST:PORT`.
        python: the command that Ray starts in place of Python for a worker; empty: Python.

    Raises:
        RunError: Ray does not answer there.
    """
    try:
        host, _, port = address.rpartition(":")
        # Ray itself would try for minutes to reach a cluster that does not answer.
        socket.create_connection((host, int(port)), _CONNECT_TIMEOUT).close()
        ray.init(address=address, runtime_env={"py_executable": python} if python else None)
    except Exception as error:
        raise RunError(
            f"cannot connect to the Ray cluster at {address}: {error}. Check 'simulation.address', and start the head "
            "node with: ray start --head",
            code=ErrorCode.WORKERS_FAILED,
        ) from None
