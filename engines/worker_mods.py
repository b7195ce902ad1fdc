"""The Flower mods of a simulation's worker processes."""

import threading
from pathlib import Path

import ray
from flwr.app import Context, Message
from flwr.clientapp.typing import ClientAppCallable, Mod

from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import flatten, to_table
from coldfusion_fl.runs.events import WorkerReplaced
from coldfusion_fl.runs.ledger import Ledger

_has_reported = threading.Event()


def with_run_config(settings: Settings) -> Mod:
    """A Flower mod that gives contributors the run-config that `flwr run` would give them."""
    run_config = flatten(to_table(settings))

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        # Flower rejects a changed run_config, so the app gets a new context, with the node's state in it.
        context = Context(context.run_id, context.node_id, context.node_config, context.state, run_config)
        return call_next(message, context)

    return mod


def report_replacement(settings: Settings) -> Mod:
    """A Flower mod that emits an event if this worker process replaces one that ended unexpectedly."""
    folder, names = Path(settings.out), settings.task_names

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        if not message.metadata.message_type.startswith("query"):  # such as the checks before the run
            _report_first_message(folder, names[int(context.node_config["partition-id"])])
        return call_next(message, context)

    return mod


def _report_first_message(folder: Path, name: str) -> None:
    # The mods are closures: Ray's workers get a new copy of them with each message, but of this module only one.
    if not _has_reported.is_set() and ray.get_runtime_context().was_current_actor_reconstructed:
        Ledger(folder).emit(WorkerReplaced(name=name))
    _has_reported.set()
