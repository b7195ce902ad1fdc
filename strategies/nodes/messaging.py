"""Sending messages through Flower's grid, and receiving the replies one at a time."""

import math
import re
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

from flwr.app import ArrayRecord, ConfigRecord, Message, Metadata, MetricRecord, RecordDict
from flwr.serverapp import Grid

from coldfusion_fl.config.message_keys import ROUND, SEED
from coldfusion_fl.sanitize import bounded

from .replies import pull_replies


class FlowerErrorCode(IntEnum):
    """The codes of the errors that Flower itself answers with; `flwr.common.constant`, which has them, is private."""

    UNKNOWN = 0
    MESSAGE_UNAVAILABLE = 3
    REPLY_MESSAGE_UNAVAILABLE = 4
    NODE_UNAVAILABLE = 5


# What the SuperLink answers in place of a node that it cannot reach.
UNREACHABLE = frozenset(FlowerErrorCode)
# What FedAvg logs of the replies: the hook, and the numbers of valid and of other replies.
RECEIVED = "%s: Received %s results and %s failures"
# How Flower's simulation begins the reason of an error, if a worker process or its machine was lost.
_WORKER_LOSS = re.compile(
    r"<class 'ray\.exceptions\.(Actor(Died|Unavailable)|WorkerCrashed|OutOfMemory|NodeDied)Error'>"
)
# Only the in-memory grid of a simulation says how often it may be polled; the grid of a deployment polls every 3 s.
_POLL_SECONDS = 3.0
# Messages that are sent in order are sent in this many parts at most: each takes as long as a poll.
_ORDERED_SENDS = 16
# Flower's simulation looks at every unanswered message for every node, again and again. With 1,000 short messages to
# 1,000 nodes at a time this takes longer than the messages themselves.
SHORT_MESSAGES_AT_ONCE = 64

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
        nodes: Iterable[int],
    ) -> list[Message]:
        """One message for each node.

        Args:
            message_type: `train` or `evaluate`.
            server_round: the round; the nodes get it as `server-round` too, as from Flower's own strategies.
            arrays: the base.
            config: what else the nodes get; its keys stay as they are.
            nodes: node IDs.
        """
        extended = {"server-round": server_round, **config, ROUND: server_round, SEED: self.seed}
        record = RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: ConfigRecord(extended)})
        # A message's ID follows from its content. With the random group ID, no node can guess the ID of a message to
        # another node, and answer it.
        return [
            Message(record, dst_node_id=node, message_type=message_type, group_id=uuid.uuid4().hex) for node in nodes
        ]


def exchange_messages(
    grid: Grid,
    messages: Iterable[Message],
    timeout: float | None,
    *,
    in_order: bool = False,
    max_waiting: int | None = None,
) -> Iterator[Message]:
    """Send messages and yield the replies as they arrive, with one of them in memory at a time.

    Each message is polled alone: see `replies.pull_replies`, which also makes error replies of unreadable ones.

    Args:
        grid: Flower's grid.
        messages: one for each node.
        timeout: seconds after the last message was sent. Then the grid is polled a last time: fetching one reply may
            take long, and replies that arrived meanwhile are in time. A reply that was announced before must be
            complete by then. None: no limit.
        in_order: whether the workers of a simulation are to start with the first messages. They take messages that
            they find together in an order of their own, so that only some are sent at each poll.
        max_waiting: the number of messages that may be without an answer; further ones are sent as answers arrive. If
            none arrives for `timeout`, the messages that are left are not sent. None: no limit.
    """
    unsent = list(messages)
    waiting: dict[str, Metadata] = {}  # by the ID of the message, in the order in which they were sent
    at_once = math.ceil(len(unsent) / _ORDERED_SENDS) if in_order and in_simulation(grid) else len(unsent)
    deadline = math.inf
    is_last = False
    while not is_last and (unsent or waiting):
        if now := unsent[: at_once if max_waiting is None else min(at_once, max_waiting - len(waiting))]:
            sent = {message_id for message_id in grid.push_messages(now) if message_id}
            waiting |= {one.metadata.message_id: one.metadata for one in now if one.metadata.message_id in sent}
            del unsent[: len(now)]
            if timeout is not None and (max_waiting is not None or not unsent):
                deadline = time.monotonic() + timeout
        is_last = time.monotonic() >= deadline
        for message_id, one in list(waiting.items()):
            replies = pull_replies(grid, one, deadline)
            while replies:
                waiting.pop(message_id, None)
                yield replies.pop()  # in no variable: memory must not hold it while the next one arrives
        if not is_last and (unsent or waiting):
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
    return reply.error.code == FlowerErrorCode.UNKNOWN and bool(_WORKER_LOSS.match(reply.error.reason or ""))


def error_reason(reply: Message) -> str:
    """The last line of an error reply: Flower puts a whole traceback in front of it, and brackets around it."""
    if is_worker_loss(reply):
        return (
            "its worker process was killed each time: memory ran out, or its client crashed. Use fewer workers at once "
            "('simulation.cpus', in a Flower project client-resources-num-cpus), smaller batches or shorter inputs"
        )
    lines = [line.strip() for line in (reply.error.reason or "").removesuffix("'>").splitlines() if line.strip()]
    last = lines[-1] if lines else "no reason was given"
    return bounded(last.removeprefix("Exception ClientAppException occurred. Message: "))


def silence(timeout: float | None) -> str:
    """The reason for a missing reply, as a clause."""
    return "it did not answer" if timeout is None else f"it did not answer within {timeout:g} s"
