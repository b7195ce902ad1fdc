"""A run as a Flower simulation on this machine, in a process of its own.

`coldfusion run` starts it as `python -m coldfusion_fl.experiments.simulation PARENT PIPE`, tells it a run folder on its
standard input, and watches the folder; what it prints goes to the folder's log. So the terminal stays free for the
display, and ending the process ends Ray too. Ray and the libraries take seconds to start: meanwhile the settings are
checked, here, so that only one process loads what that needs.
"""

import contextlib
import json
import logging
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

import psutil
import ray
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable, Mod
from flwr.common import log
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from coldfusion_fl.checks import check_contents
from coldfusion_fl.errors import ColdFusionError, RunError
from coldfusion_fl.ledger import Ledger
from coldfusion_fl.settings import Settings, flatten, parse_settings, to_table
from coldfusion_fl.tasks import load_task

from .orphans import end_with
from .saboteurs import saboteur_mods


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
        client_app or contributor_app(mods=[with_run_config(settings), *saboteur_mods(ledger.folder, settings)]),
        num_supernodes=len(settings.contributors),
        backend_config={"client_resources": {"num_cpus": share.cpus, "num_gpus": share.gpus}},
    )
    if outcome:
        raise outcome[0]


def with_run_config(settings: Settings) -> Mod:
    """A Flower mod that gives contributors the run-config that `flwr run` would give them."""
    run_config = flatten(to_table(settings))

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        # Flower refuses a changed run_config, so the app gets a context of its own, with the node's state.
        told = Context(context.run_id, context.node_id, context.node_config, context.state, run_config)
        return call_next(message, told)

    return mod


def _end_family() -> None:
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            process.kill()
    os._exit(1)


def _check(asked: dict[str, Any], answer: int) -> None:
    """Say on a pipe what is wrong with the settings, or that nothing is."""
    wrong = None
    try:
        check_contents(parse_settings(asked["settings"], asked["source"]), asked["source"])
    except ColdFusionError as error:
        wrong = {"class": type(error).__name__, "message": str(error)}
    except BaseException:  # a bug, or no memory: whoever waits for the answer must not wait for ever
        traceback.print_exc()
        sys.stderr.flush()
        _end_family()
    load_task.cache_clear()  # the rows are the contributors' affair
    with os.fdopen(answer, "w") as pipe:
        pipe.write(json.dumps(wrong) + "\n")


def _start_ray() -> Exception | None:
    """Start Ray; why it does not start."""
    # Its workers import what this process can import.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH")]))
    try:
        ray.init(include_dashboard=False)
    except Exception as failure:
        return failure
    return None


def _redirect(file: Path) -> None:
    """Print into a file from here on; what was printed before, into a temporary one, goes there first."""
    with file.open("ab", buffering=0) as log_file:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        early = sys.stdout.fileno()
        log_file.write(os.pread(early, os.fstat(early).st_size, 0))
        os.truncate(early, 0)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log_file.fileno(), stream.fileno())


def main() -> None:
    """Check the settings of a run, and run the simulation of the folder that is then named."""
    parent, answer = map(int, sys.argv[1:])
    end_with(parent, _end_family)
    asked = json.loads(sys.stdin.readline())
    checking = threading.Thread(target=_check, args=(asked, answer), daemon=True)
    checking.start()  # beside Ray's start, which is mostly waiting
    failure = _start_ray()
    checking.join()
    if not (named := sys.stdin.readline()):
        return  # the settings were not what they should be
    ledger = Ledger(Path(json.loads(named)))
    _redirect(ledger.folder / "log.txt")
    try:
        if failure:
            raise RunError(f"Ray does not start: {failure}")
        simulate(parse_settings(ledger.settings, str(ledger.folder)), ledger)
    except ColdFusionError as wrong:
        log(logging.ERROR, "%s", wrong)
        ledger.set_status("failed", reason=str(wrong))
        sys.exit(wrong.exit_code)
    except Exception as crash:
        # When Flower's simulation crashes, the server app still waits for its nodes in a thread that nothing ends.
        log(logging.ERROR, "Flower's simulation crashed", exc_info=crash)
        ledger.set_status("failed", reason=f"Flower's simulation crashed: {crash}")
        _end_family()


if __name__ == "__main__":
    main()
