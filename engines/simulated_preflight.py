"""The check of all tasks of a simulation by its own workers, before anything is written.

`check_tasks` is the server's end: it asks every simulated node. `check_task` is the node's end. Each worker tokenises a
task's rows and makes a training step in its own memory, side by side with the others. It keeps the libraries, the base
and the rows for the run.
"""

import functools
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.clientapp.typing import ClientAppCallable
from flwr.serverapp import Grid

from coldfusion_fl.clients.node_settings import read_node_settings, read_run_settings
from coldfusion_fl.config.settings import FinetuneSettings, Settings
from coldfusion_fl.data.catalogue import Catalogue
from coldfusion_fl.errors import ColdFusionError, ErrorCode, RunError, from_message, to_message
from coldfusion_fl.strategies.nodes.messaging import SHORT_MESSAGES_AT_ONCE, error_reason, exchange_messages

if TYPE_CHECKING:
    from coldfusion_fl.preflight.task_check import TaskChecker

ACTION = "preflight"
_POLL_INTERVAL = 0.05  # seconds


@dataclass
class TaskFindings:
    """What the workers found.

    Attributes:
        notes: lines about the tasks, by task.
        rows_hashes: a hash of each task's rows, by task.
        node_ids: the node of each task, by task.
        worker_memory: the highest memory of a worker after a training step, in bytes.
    """

    notes: dict[str, list[str]] = field(default_factory=dict)
    rows_hashes: dict[str, str] = field(default_factory=dict)
    node_ids: dict[str, int] = field(default_factory=dict)
    worker_memory: int = 0


def check_tasks(grid: Grid, settings: Settings, progress: Callable[[str], None]) -> TaskFindings:
    """Have the workers check all tasks.

    Args:
        grid: Flower's grid; every node is a task of the run.
        settings: the run's settings.
        progress: called with a line about the work so far.

    Raises:
        ColdFusionError: tasks that cannot be trained on; the message names all of them.
        RunError: the process of a worker was killed each time.
    """
    names = settings.task_names
    messages = [
        Message(RecordDict({"config": ConfigRecord()}), dst_node_id=node_id, message_type=f"query.{ACTION}")
        for node_id in _all_nodes(grid, len(names))
    ]
    findings, errors, lost = TaskFindings(), {}, []
    replies = exchange_messages(grid, messages, settings.node_timeout, max_waiting=SHORT_MESSAGES_AT_ONCE)
    for number, reply in enumerate(replies, start=1):
        progress(f"Checking the tasks with the base: {number} of {len(names)}")
        if reply.has_error():
            lost.append(error_reason(reply))
            continue
        config = reply.content["config"]
        name = str(config["task"])
        findings.worker_memory = max(findings.worker_memory, int(str(config.get("memory", 0))))
        if "error" in config:
            errors[name] = from_message(json.loads(str(config["error"])))
        else:
            findings.notes[name] = json.loads(str(config["notes"]))
            findings.rows_hashes[name] = str(config["rows-hash"])
            findings.node_ids[name] = reply.metadata.src_node_id
    if errors:
        ordered = [errors[name] for name in names if name in errors]
        raise type(ordered[0])("\n".join(map(str, ordered)), code=ordered[0].code)
    if missing := [name for name in names if name not in findings.notes]:
        reason = lost[0] if lost else f"there was no answer within {settings.node_timeout:g} s ('node-timeout')"
        raise RunError(f"the check of {', '.join(missing)} failed: {reason}", code=ErrorCode.WORKERS_FAILED)
    return findings


def _all_nodes(grid: Grid, number: int) -> list[int]:
    """The IDs of all nodes; Flower creates them while the ServerApp is running already."""
    while len(nodes := sorted(grid.get_node_ids())) < number:
        time.sleep(_POLL_INTERVAL)
    return nodes


def check_task(message: Message, context: Context) -> Message:
    """Check the task of this node, in reply to `check_tasks`."""
    contributor = read_node_settings(context)
    config = ConfigRecord({"task": contributor.task})
    try:
        from coldfusion_fl.data.task import load_catalogues, load_task
        from coldfusion_fl.evaluation.scores import hash_rows
        from coldfusion_fl.preflight.task_check import peak_memory

        place = contributor.catalogues, contributor.data_root
        task, catalogue = load_task(contributor.task, *place), load_catalogues(*place)
        notes = task.describe()
        settings = read_run_settings(context)
        if _is_first_shard(task.name, settings.task_names, catalogue):
            notes += _task_checker(contributor.base, settings.finetune).check(task).notes
            config["memory"] = peak_memory()
        config["notes"] = json.dumps(notes)
        config["rows-hash"] = hash_rows(task, task.train) + _hash_common_rows(catalogue.first_shard(task.name), *place)
    except ColdFusionError as error:
        config["error"] = json.dumps(to_message(error))
    return Message(RecordDict({"config": config}), reply_to=message)


def _is_first_shard(task: str, names: Sequence[str], catalogue: Catalogue) -> bool:
    """Whether a task is the first shard of its data set in a run, or no shard.

    The others need no training step: they have the same columns, classes and test rows, and there may be a thousand.
    """
    first = catalogue.first_shard(task)
    return task == next(name for name in names if catalogue.first_shard(name) == first)


@functools.lru_cache(maxsize=1)
def _hash_common_rows(first: str, catalogues: tuple[str, ...], data_root: str) -> str:
    """The hash of the rows that all shards of a data set have: those for evaluation."""
    from coldfusion_fl.data.task import load_task
    from coldfusion_fl.evaluation.scores import hash_rows

    task = load_task(first, catalogues, data_root)
    return hash_rows(task, task.validation) + hash_rows(task, task.test)


@functools.lru_cache(maxsize=1)
def _task_checker(base: str, settings: FinetuneSettings) -> "TaskChecker":
    from coldfusion_fl.clients.own_base import open_base_once
    from coldfusion_fl.model.encoder import load_encoder
    from coldfusion_fl.preflight.task_check import TaskChecker

    opened = open_base_once(base)
    return TaskChecker(opened, load_encoder(opened), settings)


def forget_checker(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """A Flower mod that frees the base of the checks before the first training or evaluation of a process."""
    if not message.metadata.message_type.startswith("query"):
        _task_checker.cache_clear()
    return call_next(message, context)
