"""Sending messages through Flower's grid, and receiving the replies one at a time."""

import math
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from logging import WARNING
from typing import Any, TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common import log
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from coldfusion_fl.sanitize import sanitize

# What the SuperLink answers in place of a node that it cannot reach.
UNREACHABLE = frozenset(
    {
        ErrorCode.UNKNOWN,
        ErrorCode.NODE_UNAVAILABLE,
        ErrorCode.MESSAGE_UNAVAILABLE,
        ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
    }
)
MAX_REASON = 300
# How Flower's simulation begins the reason of an error, if a worker process or its machine was lost.
_WORKER_LOSS = re.compile(
    r"<class 'ray\.exceptions\.(Actor(Died|Unavailable)|WorkerCrashed|OutOfMemory|NodeDied)Error'>"
)
# Only the in-memory grid of a simulation says how often it may be polled; the grid of a deployment polls every 3 s.
_POLL_SECONDS = 3.0

_Record = TypeVar("_Record", ArrayRecord, MetricRecord, ConfigRecord)


@dataclass(frozen=True)
class MessageBuilder:
    """Builds the messages of the strategy.

    Attributes:
        arrayrecord_key: the key of the arrays.
        configrecord_key: the key of the configuration.
        seed: goes to every node.
    """

    arrayrecord_key: str
    configrecord_key: str
    seed: int

    def build(
        self,
        message_type: str,
        server_round: int,
        arrays: ArrayRecord,
        config: Mapping[str, Any],
        nodes: Mapping[str, int],
    ) -> dict[str, Message]:
        """One message for each node, by name.

        Args:
            message_type: `train` or `evaluate`.
            server_round: the round; the nodes get it as `server-round`.
            arrays: the base.
            config: what else the nodes get.
            nodes: node IDs by name.
        """
        extended = {**config, "server-round": server_round, "seed": self.seed}
        return {
            name: Message(
                RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: ConfigRecord(extended)}),
                dst_node_id=node_id,
                message_type=message_type,
            )
            for name, node_id in nodes.items()
        }


def exchange_messages(
    grid: Grid, messages: Iterable[Message], timeout: float, *, in_order: bool = False
) -> Iterator[Message]:
    """Send messages and yield the replies as they arrive, with one in memory at a time.

    A reply belongs to the node whose message ID we polled. Flower does not check what a reply says of itself, and a
    reply that claims to answer another message is dropped.

    Args:
        grid: Flower's grid.
        messages: one for each node.
        timeout: seconds after the last message was sent. Then the grid is polled a last time: fetching one reply may
            take long, and replies that arrived meanwhile are in time.
        in_order: whether the workers of a simulation are to start with the first messages. They take messages that
            they find together in an order of their own, so that only one is sent at each poll.
    """
    unsent = list(messages)
    waiting: list[str] = []
    at_once = 1 if in_order and in_simulation(grid) else len(unsent)
    deadline = math.inf
    is_last = False
    while unsent or (waiting and not is_last):
        if unsent:
            waiting += [message_id for message_id in grid.push_messages(unsent[:at_once]) if message_id]
            del unsent[:at_once]
            deadline = math.inf if unsent else time.monotonic() + timeout
        is_last = time.monotonic() >= deadline
        for message_id in list(waiting):
            # Polled one by one: Flower would return all replies that have arrived at once.
            replies = list(grid.pull_messages([message_id]))
            if replies:
                waiting.remove(message_id)
            while replies:
                reply = replies.pop()
                if reply.metadata.reply_to_message_id == message_id:
                    yield reply
                else:
                    log(WARNING, "Ignored a reply to message %s: it names a different message.", message_id)
                del reply  # so that memory does not hold it while the next one arrives
        if unsent or (waiting and not is_last):
            time.sleep(poll_interval(grid))


def poll_interval(grid: Grid) -> float:
    """Seconds between two polls for replies."""
    return float(getattr(grid, "pull_interval", _POLL_SECONDS))


def in_simulation(grid: Grid) -> bool:
    """Whether the nodes are simulated: no others will connect, and their replies come from this machine."""
    return hasattr(grid, "pull_interval")


def records_of(reply: Message, kind: type[_Record]) -> dict[str, _Record]:
    """A reply's records of one kind, by key.

    Flower's own views, such as `content.array_records`, tie a message into a reference cycle: its bytes would stay in
    memory until Python's garbage collector happens to run.
    """
    return {key: record for key, record in reply.content.items() if isinstance(record, kind)}


def is_worker_loss(reply: Message) -> bool:
    """Whether an error reply says that the worker process of a simulated node was killed each time."""
    # An exception in the worker has another code.
    return reply.error.code == ErrorCode.UNKNOWN and bool(_WORKER_LOSS.match(reply.error.reason or ""))


def error_reason(reply: Message) -> str:
    """The last line of an error reply: Flower puts a whole traceback in front of it, and brackets around it."""
    if is_worker_loss(reply):
        return (
            "its worker process was killed each time, most likely because memory ran out. Use fewer workers "
            "('simulation.cpus'), smaller batches ('finetune.batch-size') or shorter texts ('finetune.max-length')"
        )
    lines = [line.strip() for line in (reply.error.reason or "").removesuffix("'>").splitlines() if line.strip()]
    last = lines[-1] if lines else "no reason was given"
    return sanitize(last.removeprefix("Exception ClientAppException occurred. Message: "))[:MAX_REASON]
