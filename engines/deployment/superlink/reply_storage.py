"""Hands accepted replies to Flower, and errors in place of the others, also while its database is busy.

The member that sent a reply has been told that it is stored, and will not send it again. SQLite has one writer, and a
transaction of Flower waits 5 s for it. So what fails is tried again for a while. The server's app looks for replies all
the time, and takes what it finds out of the database. So the message is stored after its parts.
"""

import asyncio
import json
import time
from collections.abc import Callable, Iterable
from logging import ERROR, INFO, WARNING
from typing import Any

from flwr.app import Error
from flwr.app import Message as FlowerMessage
from flwr.common import log
from starlette.concurrency import run_in_threadpool

from coldfusion_fl.engines.deployment.superlink.staged_reply import StagedReply
from coldfusion_fl.engines.flower_internals import (
    FlowerError,
    fleet_handlers,
    get_object_tree,
    message_pb2,
    metadata_from_proto,
)

# Flower's own code for a reply that it cannot deliver: it does not count as a rejection of the member.
_REPLY_UNAVAILABLE = 4
_PATIENCE, _PAUSE = 60.0, 1.0  # seconds


class _ClosedError(Exception):
    """The message that a reply answers is gone."""


async def hand_on(staged: StagedReply, state: Any, sender: str) -> None:
    """Store a complete reply, and free its file. If that fails for good, the server's app gets an error in its place.

    Args:
        staged: the reply.
        state: Flower's state of the server.
        sender: its node, for the log.
    """
    try:
        await _repeat(_store, staged, state)
    except (FlowerError, _ClosedError) as error:  # such as that the run has ended
        log(INFO, "A reply of %s was not stored: %s", sender, error)
        await _delete_parts(staged, state)
    except Exception as error:
        log(ERROR, "A reply of %s could not be stored. The run goes on without it.", sender, exc_info=True)
        await _delete_parts(staged, state)
        reason = f"the server could not store its reply: {type(error).__name__}: {error}"
        await answer_with_error(staged.request, _REPLY_UNAVAILABLE, reason, state)
    finally:
        staged.close()


async def answer_with_error(request: Any, code: int, reason: str, state: Any) -> None:
    """Store an error in place of a reply, so that the server's app need not wait for the reply.

    Args:
        request: the announcement of the reply.
        code: of the error.
        reason: of the error.
        state: Flower's state of the server.
    """
    try:
        await _repeat(_store_error, request, code, reason, state)
    except (FlowerError, ValueError, _ClosedError) as failure:  # such as that the run has ended
        log(INFO, "An error was not stored in place of a reply: %s", failure)
    except Exception:
        log(ERROR, "An error could not be stored in place of a reply. The run waits for the reply.", exc_info=True)


def find_open(state: Any, metadata: Any) -> Any:
    """The message to a reply's node in its run that the reply answers; None where none waits for a reply."""
    message = state.get_valid_message_ins(metadata.reply_to_message_id)
    is_answered = message is not None and (unsigned(message["dst_node_id"]), unsigned(message["run_id"])) == (
        metadata.src_node_id,
        metadata.run_id,
    )
    return message if is_answered else None


def open_messages(state: Any, messages: Iterable[str]) -> set[str]:
    """Those of some messages that wait for replies: not deleted, not expired, and to nodes that are members."""
    rows = state.query(
        "SELECT message_id FROM message_ins JOIN node ON node.node_id = dst_node_id WHERE message_id IN "
        "(SELECT value FROM json_each(:ids)) AND created_at + ttl > :now AND status != 'unregistered'",
        {"ids": json.dumps(list(messages)), "now": time.time()},
    )
    return {row["message_id"] for row in rows}


def unsigned(number: int) -> int:
    """An ID as Flower sends it; the database has it as a signed number."""
    return number % 2**64


async def _delete_parts(staged: StagedReply, state: Any) -> None:
    """Delete the parts of a reply that was not stored. What remains is deleted after the end of the run."""
    try:
        await _repeat(state.object_store.delete, staged.metadata.message_id)
    except Exception as error:
        log(WARNING, "Parts of a reply that was not stored remain until the end of the run: %s", error)


async def _repeat(step: Callable[..., None], *arguments: Any) -> None:
    """Run a step in a thread, and again if it fails, unless it never can work, such as after the end of the run."""
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            await run_in_threadpool(step, *arguments)
            return
        except (FlowerError, ValueError, _ClosedError):
            raise
        except Exception:
            if time.monotonic() >= end:
                raise
        await asyncio.sleep(_PAUSE)


def _store(staged: StagedReply, state: Any) -> None:
    """Hand a complete reply to Flower, as if its node had just announced it and sent its parts.

    The message and its first part are stored in one transaction, after all other parts, because the server's app takes
    a message out of the database as soon as it sees it. What failed may be repeated: parts that are there stay.
    """
    metadata, objects = staged.metadata, state.object_store
    if find_open(state, metadata) is None:
        raise _ClosedError("no message waits for it any more")
    wanted = set(objects.preregister(metadata.run_id, staged.request.message_object_trees[0]))
    size, first = 0, b""
    for object_id, content in staged.contents():
        if object_id == metadata.message_id:
            first = content
            continue
        if object_id in wanted:
            objects.put(object_id, content)
        size += len(content)
    with state.session():  # one transaction
        announced = fleet_handlers.push_messages(staged.request, state)
        part = message_pb2.PushObjectRequest(
            node=staged.request.node,
            run_id=metadata.run_id,
            session_id=announced.session_id,
            object_id=metadata.message_id,
            object_content=first,
        )
        # Its log says why, if Flower stores nothing.
        if list(announced.objects_to_push) != [metadata.message_id]:
            raise RuntimeError("Flower did not store the reply")
        if not fleet_handlers.push_object(part, state).stored:
            raise RuntimeError("Flower did not store a part of the reply")
        if size:
            state.store_traffic(metadata.run_id, bytes_sent=0, bytes_recv=size)


def _store_error(request: Any, code: int, reason: str, state: Any) -> None:
    metadata = metadata_from_proto(request.messages_list[0].metadata)
    error = Error(code=code, reason=reason)
    message = FlowerMessage(error=error, metadata=metadata)  # type: ignore[call-overload]
    message.metadata.__dict__["_message_id"] = message.object_id
    with state.session():  # one transaction
        session = state.start_session(metadata.run_id)
        stored, _ = state.store_message_and_object_tree(message, get_object_tree(message), session)
        if not stored:
            raise _ClosedError("no message waits for it any more")
        if not state.store_object(metadata.run_id, session, message.object_id, message.deflate()):
            raise RuntimeError("Flower did not store an error")  # its log says why
