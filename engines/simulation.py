"""A run as a Flower simulation on this machine, in a process of its own.

`coldfusion run` starts it (`launch`) and watches the run folder; so the terminal stays free for the display, and ending
the process ends Ray too. Ray and the libraries take seconds to start: meanwhile the settings are checked, here, so that
only one process loads what that needs.
"""

import os
import socket
import sys
from typing import Any

import ray
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from coldfusion_fl.cli.worker import run_worker
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import flatten, to_table
from coldfusion_fl.data.task import load_task
from coldfusion_fl.errors import ColdFusionError, RunError
from coldfusion_fl.experiments.attacks import attack_mods
from coldfusion_fl.run.ledger import Ledger
from coldfusion_fl.run.preflight import check_contents

_SECONDS = 10.0


def simulate(settings: Settings, ledger: Ledger, client_app: ClientApp | None = None) -> None:
    """Run ColD Fusion with all contributors simulated by Flower on Ray.

    Args:
        settings: the run's settings.
        ledger: its run folder.
        client_app: another contributor than ours, for tests.

    Raises:
        ColdFusionError: what ended the run before its end.
    """
    from coldfusion_fl.clients.client_app import contributor_app
    from coldfusion_fl.strategies.server_app import serve

    server_app = ServerApp()
    outcome: list[ColdFusionError] = []

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            serve(grid, settings, ledger)
        except ColdFusionError as wrong:  # Flower would hide it in an error of its own
            outcome.append(wrong)

    share = settings.simulation
    run_simulation(
        server_app,
        client_app or contributor_app(mods=[with_run_config(settings), *attack_mods(ledger.folder, settings)]),
        num_supernodes=len(settings.contributors),
        backend_config={"client_resources": {"num_cpus": share.cpus, "num_gpus": share.gpus}},
    )
    if outcome:
        raise outcome[0]


def with_run_config(settings: Settings) -> Mod:
    """A Flower mod that gives contributors the run-config that `flwr run` would give them."""
    run_config = flatten(to_table(settings))

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        # Flower rejects a changed run_config, so the app gets a context of its own, with the node's state.
        told = Context(context.run_id, context.node_id, context.node_config, context.state, run_config)
        return call_next(message, told)

    return mod


def _check(settings: Settings, source: str) -> None:
    check_contents(settings, source)
    load_task.cache_clear()  # the rows are the contributors' affair


def _start_ray(settings: dict[str, Any]) -> RunError | None:
    """Start Ray, or join its cluster; why that fails."""
    # Its workers import what this process can import.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH")]))
    address = settings.get("simulation", {}).get("address", "")
    try:
        if address:
            host, _, port = address.rpartition(":")
            socket.create_connection((host, int(port)), _SECONDS).close()  # Ray itself would ask for minutes
            ray.init(address=address)
        else:  # else Ray would join a cluster that somebody started on this machine, or wait for one that is gone
            ray.init(address="local", include_dashboard=False)
    except Exception as failure:
        cluster = f" at {address}" if address else ""
        return RunError(f"Ray does not start{cluster}: {failure}")
    return None


def main() -> None:
    """Check the settings of a run, while Ray starts, and run the simulation of the folder that is then named."""
    # Ray's workers import from its starter's folder before all else: in a checkout, from half of this package.
    os.chdir("/")
    run_worker("Flower's simulation", _check, _start_ray, simulate)


if __name__ == "__main__":
    main()
