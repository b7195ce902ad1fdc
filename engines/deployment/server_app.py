"""The ServerApp of a federation: the usual run, with the names of members known from their keys."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.engines.deployment.federation import read_member_names
from coldfusion_fl.engines.flower_internals import http_grid
from coldfusion_fl.execution.log_file import LOG, log_to
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.strategies.nodes.replies import seconds_left
from coldfusion_fl.strategies.server_app import serve

_LOGGERS = ("flwr", "coldfusion_fl")
_MAX_BACKOFF = 2.0  # seconds between two looks whether an array is there; the wait may end later by this much

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Execute the run in the folder that Flower's run-config names."""
    ledger = Ledger.reopen(Path(str(context.run_config["run-folder"])))
    names = functools.partial(read_member_names, Path(str(context.run_config["members"])))
    settings = parse_settings(ledger.settings, str(ledger.folder))
    limit_array_wait()
    # The output of this process goes to the log of the SuperLink, which has all runs and connections.
    with log_to(ledger.folder / LOG, _LOGGERS):
        serve(grid, settings, ledger, names)


def limit_array_wait() -> None:
    """Limit how long the server waits for the arrays of announced replies; by default, Flower waits for two hours each.

    They must be there by the deadline of the round, the evaluation or the query that they belong to. Then they are
    given up, so that all members that announce a reply and send no arrays cost one time limit together.
    """
    pull: Callable[..., dict[str, bytes]] = http_grid.pull_objects

    def pull_until_deadline(*arguments: Any, **options: Any) -> dict[str, bytes]:
        limits = {"max_time": seconds_left(), "max_tries_per_object": None, "backoff_cap": _MAX_BACKOFF}
        return pull(*arguments, **limits, **options)

    http_grid.pull_objects = pull_until_deadline
