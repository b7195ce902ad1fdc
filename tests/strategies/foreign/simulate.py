"""Run the Flower project in this folder in a simulation: simulate.py NODES JSON [--server MODULE:APP].

Flower's `run_simulation` knows no run-config, so the project's own server app is called with one. The numbers of
messages and of log lines are added to the report that the server app writes.
"""

import argparse
import json
import logging
import tomllib
from collections import Counter
from importlib import import_module
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation


def load(reference: str):
    """What a reference such as `package.server_app:app` stands for."""
    module, _, name = reference.partition(":")
    return getattr(import_module(module), name)


class LineCounter(logging.Handler):
    """Counts the log lines of each level, from INFO on."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        """Count a line."""
        self.lines[record.levelname] += 1


def count_messages(grid: Grid) -> Counter[str]:
    """The numbers of messages that are sent from now on, by type."""
    sent: Counter[str] = Counter()
    push = grid.push_messages

    def push_messages(messages):
        messages = list(messages)
        sent.update(message.metadata.message_type for message in messages)
        return push(messages)

    grid.push_messages = push_messages
    return sent


def main() -> None:
    """Read the project's pyproject.toml, and run it."""
    arguments = argparse.ArgumentParser()
    arguments.add_argument("nodes", type=int)
    arguments.add_argument("config", type=json.loads)
    arguments.add_argument("--server")
    given = arguments.parse_args()
    app = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["tool"]["flwr"]["app"]
    server_app, client_app = load(given.server or app["components"]["serverapp"]), load(app["components"]["clientapp"])
    configured = ServerApp()

    @configured.main()
    def with_config(grid: Grid, context: Context) -> None:
        context.run_config.update(app["config"] | given.config)
        sent, counter = count_messages(grid), LineCounter()
        logging.getLogger("flwr").addHandler(counter)
        server_app(grid, context)
        out = Path(given.config["out"])
        counts = {"messages": dict(sent), "log-lines": dict(counter.lines)}
        out.write_text(json.dumps(json.loads(out.read_text(encoding="utf-8")) | counts), encoding="utf-8")

    resources = {"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": 2}}
    run_simulation(configured, client_app, num_supernodes=given.nodes, backend_config=resources)


if __name__ == "__main__":
    main()
