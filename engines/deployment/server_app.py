"""The ServerApp of a federation: the usual run, with the names of members known from their keys."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.engines.flower_internals import http_grid
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.strategies.server_app import serve

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Execute the run in the folder that Flower's run-config names."""
    ledger = Ledger.reopen(Path(str(context.run_config["run-folder"])))
    members = Path(str(context.run_config["members"]))

    def names() -> Mapping[int, str]:
        # The file is read each time, because members join and leave during a run.
        found = json.loads(members.read_text(encoding="utf-8"))
        return {int(node_id): name for name, node_id in found.items()}

    settings = parse_settings(ledger.settings, str(ledger.folder))
    limit_array_wait(settings.round_timeout)
    serve(grid, settings, ledger, names)


def limit_array_wait(seconds: float) -> None:
    """Limit how long the server waits for the arrays of an announced reply; by default, Flower waits for two hours.

    Args:
        seconds: the limit; then the reply is given up.
    """
    http_grid.pull_objects = functools.partial(http_grid.pull_objects, max_time=seconds)
