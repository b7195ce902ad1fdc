"""The ServerApp of a federation: the same run as everywhere, with members known by their keys."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.superlink.grid import http_grid

from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.run.ledger import Ledger
from coldfusion_fl.strategies.server_app import serve

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the run folder that Flower's run-config names."""
    ledger = Ledger.reopen(Path(str(context.run_config["run-folder"])))
    members = Path(str(context.run_config["members"]))

    def names() -> Mapping[int, str]:  # read each time: members come and go
        found = json.loads(members.read_text(encoding="utf-8"))
        return {int(node_id): name for name, node_id in found.items()}

    settings = parse_settings(ledger.settings, str(ledger.folder))
    wait_for_arrays_at_most(settings.round_timeout)
    serve(grid, settings, ledger, names)


def wait_for_arrays_at_most(seconds: float) -> None:
    """Give up a reply that was announced when its arrays are not here in time: Flower would wait for two hours."""
    http_grid.pull_objects = functools.partial(http_grid.pull_objects, max_time=seconds)
