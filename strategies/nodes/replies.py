"""Reads the replies to messages, whatever their senders put into them.

All replies of a run are read here, one message at a time. Flower deletes all replies to the polled messages before it
reads the first one, so that an unreadable reply would take those with it that were polled together.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from logging import WARNING
from time import monotonic

from flwr.app import Error, Message, Metadata, RecordDict
from flwr.common import log
from flwr.serverapp import Grid

from coldfusion_fl.config.message_keys import UNREADABLE_REPLY
from coldfusion_fl.sanitize import bounded

# The libraries by which Flower talks to the SuperLink.
_TRANSPORTS = frozenset({"httpx", "httpcore", "grpc"})

_deadline: ContextVar[float] = ContextVar("deadline", default=math.inf)


def pull_replies(grid: Grid, sent: Metadata, deadline: float = math.inf) -> list[Message]:
    """The replies to one message that have arrived; usually one, or none yet.

    A reply that cannot be read, or that claims to answer another message, becomes an error reply of its sender with the
    code `UNREADABLE_REPLY`. Its sender is the node that the message was sent to, whatever the reply says.

    Args:
        grid: Flower's grid.
        sent: the metadata of the message.
        deadline: when the wait for the arrays of an announced reply ends, in the time of `time.monotonic`. The grid of
            a deployment heeds it: see `seconds_left`.

    Raises:
        Exception: what the grid raises when the SuperLink cannot be reached, or has stopped the run.
    """
    try:
        with _until(deadline):
            replies = list(grid.pull_messages([sent.message_id]))
        answers = [reply for reply in replies if _answers(reply, sent)]
    # Anything can be in a reply, so reading one can raise anything.
    except Exception as failure:
        if _is_of_connection(failure):
            raise
        return [_unreadable(sent, f"{type(failure).__name__}: {failure}")]
    if len(answers) < len(replies):
        log(WARNING, "Node %d answered a message, and named another message in its reply.", sent.dst_node_id)
        return answers or [_unreadable(sent, "it names another message than the one that it answers")]
    return answers


def is_unreadable(reply: Message) -> bool:
    """Whether this error reply stands for a reply that could not be read."""
    return reply.has_error() and reply.error.code == UNREADABLE_REPLY


def seconds_left() -> float:
    """The seconds until the reply that is being pulled must be complete, at least 0; infinite where nothing limits it.

    Flower waits for the arrays of a reply that was announced. If each reply had a limit of its own, the members that
    announce a reply and send no arrays would cost the round one limit each.
    """
    return max(0.0, _deadline.get() - monotonic())


@contextmanager
def _until(deadline: float) -> Iterator[None]:
    token = _deadline.set(deadline)
    try:
        yield
    finally:
        _deadline.reset(token)


def _answers(reply: Message, sent: Metadata) -> bool:
    """Whether a reply answers a message.

    Raises:
        TypeError: it is no message.
        ValueError: it has neither content nor an error.
    """
    if not isinstance(reply, Message):
        raise TypeError(f"it is no message but a {type(reply).__name__}")
    if not reply.has_error() and not isinstance(reply.content, RecordDict):
        raise TypeError("its content is no RecordDict")
    return reply.metadata.reply_to_message_id == sent.message_id


def _is_of_connection(failure: Exception) -> bool:
    """Whether a failure to pull a reply is no fault of the reply's sender."""
    kinds = type(failure).__mro__
    if isinstance(failure, OSError) or any(kind.__module__.partition(".")[0] in _TRANSPORTS for kind in kinds):
        return True
    # Flower's own exceptions say that the run was stopped, for example. What it raises while it reads is a built-in.
    return kinds[0].__module__.startswith("flwr.") and not isinstance(failure, TypeError | ValueError | LookupError)


def _unreadable(sent: Metadata, reason: str) -> Message:
    metadata = Metadata(
        run_id=sent.run_id,
        message_id="",
        src_node_id=sent.dst_node_id,
        dst_node_id=sent.src_node_id,
        reply_to_message_id=sent.message_id,
        group_id=sent.group_id,
        created_at=sent.created_at,
        ttl=sent.ttl,
        message_type=sent.message_type,
    )
    error = Error(code=UNREADABLE_REPLY, reason=f"its reply cannot be read: {bounded(reason)}")
    return Message(error=error, metadata=metadata)  # type: ignore[call-overload]
