"""What a node trained, sent and reported to the server, for the person who runs the node.

Each reply adds lines to a file, which the node config names: `message-log`. The lines are made from the reply itself,
so that they are about what leaves the machine. Where something went wrong, a line before them begins with the problem.
It has the details too, which the server is not told. An answer to a query with the same problem as before is one short
line, because the server asks an excluded node again and again.
"""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from logging.handlers import RotatingFileHandler
from pathlib import Path

from flwr.app import ArrayRecord, Context, Message, MessageType
from flwr.clientapp.typing import ClientAppCallable
from flwr.common import log

from coldfusion_fl.config.message_keys import COMPRESSION, FREEZE, ROUND
from coldfusion_fl.errors import ColdFusionError, first_line
from coldfusion_fl.sanitize import sanitize

_TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
_TIME_WIDTH = len("2026-11-30 12:00:00 ")
_MAX_BYTES = 5_000_000
_OLD_FILES = 3
_MAX_TEXT, _MAX_PROBLEM = 200, 2000
_PROBLEM, _SAME = "PROBLEM: ", "reported to the server: the same problem as before"
# How much of the end of the log is compared.
_COMPARED_BYTES = 1 << 16
# The problem of the message that is handled now, with its details.
_problem: ContextVar[str] = ContextVar("problem", default="")


def log_messages(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """A Flower mod that logs each reply. It must be the first mod, so that it sees what the others made of it."""
    _problem.set("")
    reply = call_next(message, context)
    if file := context.node_config.get("message-log"):
        task = str(context.node_config.get("task", ""))
        try:
            lines = [sanitize(line) for line in describe_reply(message, reply, task, _problem.get())]
            is_query = message.metadata.message_type == MessageType.QUERY
            is_repeated = is_query and lines[0].startswith(_PROBLEM) and _ends_with(Path(str(file)), lines)
            _append(Path(str(file)), [_SAME] if is_repeated else lines)
        except OSError as error:  # such as a full disk, for which a contribution must not be lost
            log(logging.WARNING, "The message log cannot be written: %s", error)
    return reply


def note_problem(error: Exception) -> None:
    """Note why this node cannot do what the present message asks, for the log alone."""
    _problem.set(str(error) if isinstance(error, ColdFusionError) else f"{type(error).__name__}: {first_line(error)}")


def _ends_with(file: Path, lines: Sequence[str]) -> bool:
    """Whether a log ends with some lines, whatever their times. Lines on the same problem do not count.

    Only its own end is known: each message may be handled by a process of its own.
    """
    try:
        with file.open("rb") as log_file:
            log_file.seek(max(0, log_file.seek(0, os.SEEK_END) - _COMPARED_BYTES))
            end = log_file.read(_COMPARED_BYTES).decode("utf-8", "replace")
    except OSError:  # such as a log that does not exist yet
        return False
    texts = [line[_TIME_WIDTH:] for line in end.splitlines()]
    return [text for text in texts if text != _SAME][-len(lines) :] == list(lines)


def _append(file: Path, lines: Sequence[str]) -> None:
    # Opened for each message, because Flower starts a process for each.
    with contextlib.closing(_RaisingFileHandler(file, "a", _MAX_BYTES, _OLD_FILES, "utf-8")) as handler:
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", _TIME_FORMAT))
        for line in lines:
            handler.emit(logging.makeLogRecord({"msg": line}))


class _RaisingFileHandler(RotatingFileHandler):
    """Raises what goes wrong. Handlers of `logging` print a traceback instead, and go on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (the name in `logging`)
        """Called by `emit` while it handles an exception."""
        if error := sys.exception():
            raise error


def describe_reply(message: Message, reply: Message, task: str, problem: str = "") -> Iterator[str]:
    """Describe a message and the reply to it.

    Args:
        message: the server's message.
        reply: what the server is sent.
        task: the name of this node's task.
        problem: why this node could not do what was asked, in more words than the reply has; empty: not known.

    Yields:
        Lines: what went wrong, and what follows from it; what was done; the arrays that are sent, and the numbers and
            texts that are reported to the server.
    """
    kind = message.metadata.message_type.partition(".")[0]
    round_ = _round_of(message)
    if reply.has_error():
        text = _sentence(problem or reply.error.reason)
        yield f"{_PROBLEM}{text} Nothing else was sent as an answer to this message."
        yield f"{round_}reported an error to the server: {reply.error.reason or reply.error.code}"
        return
    values = dict(_values(reply))
    if kind == MessageType.QUERY and "problem" in values:
        yield (
            f"{_PROBLEM}{_sentence(problem or values['problem'])} Until this is solved, this node takes no part in the "
            "run. If you change its settings, start it again. The server asks again every minute while it waits for "
            "members, and at the start of each round."
        )
    if kind == MessageType.TRAIN:
        yield f"{round_}trained on '{task}': {_training(values)}{_frozen(message)}"
    elif kind == MessageType.EVALUATE:
        yield f"{round_}scored the base on '{task}': {values.get('num-examples', 'unknown')} test rows"
    for name, record in reply.content.array_records.items():
        yield f"{round_}sent {_arrays(name, record, values)}"
    reported = ", ".join(f"{key}={_short(value)}" for key, value in values.items())
    yield f"{round_}reported to the server: {reported or 'nothing'}"


def _sentence(problem: object) -> str:
    """A problem as a sentence that is not too long."""
    text = " ".join(str(problem or "unknown").split())
    return f"{text[:_MAX_PROBLEM].rstrip('.')}."


def _round_of(message: Message) -> str:
    configs = message.content.config_records.values() if message.has_content() else ()
    numbers = [config[ROUND] for config in configs if ROUND in config]
    return f"round {_short(numbers[0])}: " if numbers else ""


def _values(reply: Message) -> Iterator[tuple[str, object]]:
    """All numbers and texts in a reply, whatever record they are in."""
    for metrics in reply.content.metric_records.values():
        yield from metrics.items()
    for config in reply.content.config_records.values():
        yield from config.items()


def _training(values: Mapping[str, object]) -> str:
    facts = {
        "num-examples": "{} rows",
        "steps": "{} steps",
        "seconds": "{} s",
        "loss": "loss {}",
        "dev-score": "dev score {}",
    }
    return ", ".join(text.format(_short(values[key])) for key, text in facts.items() if key in values)


def _frozen(message: Message) -> str:
    """What the server asked not to train."""
    asked = [str(config[FREEZE]) for config in message.content.config_records.values() if FREEZE in config]
    return f", {asked[0]} frozen" if asked and asked[0] != "nothing" else ""


def _arrays(name: str, record: ArrayRecord, values: Mapping[str, object]) -> str:
    size = sum(len(array.data) for array in record.values())
    types = ", ".join(sorted({str(array.dtype) for array in record.values()}))
    encoding = f", compression {_short(values[COMPRESSION])}" if COMPRESSION in values else ""
    return f"{name}: {len(record)} arrays of {types}, {size / 1e6:,.1f} MB{encoding}"


def _short(value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) <= _MAX_TEXT else f"{text[:_MAX_TEXT]}… ({len(text)} characters)"
