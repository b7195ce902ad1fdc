"""A run as a Flower simulation on Ray."""

import os
import socket
import sys

import ray
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import flatten, to_table
from coldfusion_fl.errors import ColdFusionError, ErrorCode, RunError
from coldfusion_fl.run.ledger import Ledger

_CONNECT_TIMEOUT = 10.0  # seconds


def simulate(settings: Settings, ledger: Ledger, client_app: ClientApp) -> None:
    """Run ColD Fusion with all contributors simulated by Flower on Ray.

    Args:
        settings: the run's settings.
        ledger: the run folder.
        client_app: the contributors' app.

    Raises:
        ColdFusionError: the reason why the run ended early.
    """
    from coldfusion_fl.strategies.server_app import serve

    server_app = ServerApp()
    failures: list[ColdFusionError] = []

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            serve(grid, settings, ledger)
        except ColdFusionError as error:  # Flower would replace it by an error of its own
            failures.append(error)

    share = settings.simulation
    run_simulation(
        server_app,
        client_app,
        num_supernodes=len(settings.task_names),
        backend_config={"client_resources": {"num_cpus": share.cpus, "num_gpus": share.gpus}},
    )
    if failures:
        raise failures[0]


def with_run_config(settings: Settings) -> Mod:
    """A Flower mod that gives contributors the run-config that `flwr run` would give them."""
    run_config = flatten(to_table(settings))

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        # Flower rejects a changed run_config, so the app gets a new context, with the node's state in it.
        context = Context(context.run_id, context.node_id, context.node_config, context.state, run_config)
        return call_next(message, context)

    return mod


def start_ray(address: str) -> RunError | None:
    """Start Ray on this machine, or connect to a cluster.

    Args:
        address: of the cluster, `HOST:PORT`; empty: start Ray here.

    Returns:
        The reason why this failed; None: Ray is ready.
    """
    # Ray's workers must find the same packages as this process.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH")]))
    try:
        if address:
            host, _, port = address.rpartition(":")
            # Ray itself would try for minutes to reach a cluster that does not answer.
            socket.create_connection((host, int(port)), _CONNECT_TIMEOUT).close()
            ray.init(address=address)
        else:
            # Without an address, Ray would connect to any cluster that was ever started on this machine.
            ray.init(address="local", include_dashboard=False)
    except Exception as error:
        if not address:
            return RunError(f"cannot start Ray on this machine: {error}", code=ErrorCode.WORKERS_FAILED)
        return RunError(
            f"cannot connect to the Ray cluster at {address}: {error}. Check 'simulation.address', and start the head "
            "node with: ray start --head",
            code=ErrorCode.WORKERS_FAILED,
        )
    return None
