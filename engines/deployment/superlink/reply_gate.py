"""Replies of members reach Flower only when they are complete, within the budget, and answers.

Members can only reply for themselves: Flower 1.42 checks that a request is signed by the node that it names as its
sender, but not that the reply in it is from the same node. A reply must answer a message to this node that is open, and
each message is answered once. So a budget for each reply is one for each round and each run as well.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from coldfusion_fl.config.message_keys import UNREADABLE_REPLY
from coldfusion_fl.engines.deployment.superlink.access_control import caller, respond
from coldfusion_fl.engines.deployment.superlink.node_auth import NODE, describe_node, read_body, replay
from coldfusion_fl.engines.deployment.superlink.rejection_log import RejectionLog
from coldfusion_fl.engines.deployment.superlink.reply_budget import ReplyBudget, object_ids, stored_size
from coldfusion_fl.engines.deployment.superlink.reply_storage import (
    answer_with_error,
    find_open,
    hand_on,
    open_messages,
    unsigned,
)
from coldfusion_fl.engines.deployment.superlink.staged_reply import ReplyRejectedError, StagedReply
from coldfusion_fl.engines.flower_internals import fleet_pb2, message_pb2, runtime_pb2

PUSH_MESSAGES, PUSH_OBJECT = "/v1/fleet/push-messages", "/v1/fleet/push-object"
_OWN_MESSAGES, _OWN_OBJECT = "/v1/runtime/push-messages", "/v1/runtime/push-object"
# An announcement has 70 bytes for each part.
_MAX_ANNOUNCEMENT = 2**20
# Flower's SuperNode works on one message at a time; a second reply is one that it has begun before a restart.
_MAX_STAGED = 2
_REMEMBERED = 32
# Seconds; Flower's SuperNode waits 30 s for a response.
_MAX_RESPONSE = 10.0
_PROTOBUF = "application/protobuf"

_Result = TypeVar("_Result")


class ReplyGate:
    """ASGI middleware: receives replies in Flower's place, and hands the accepted ones to it.

    Args:
        app: the next ASGI application.
        rejections: logs what is rejected.
        names: returns the members' names by node ID, for the log.
        folder: where replies are kept while they arrive.
    """

    def __init__(
        self, app: ASGIApp, rejections: RejectionLog, names: Callable[[], Mapping[int, str]], folder: Path
    ) -> None:
        self._app = app
        self._rejections = rejections
        self._names = names
        self._folder = folder
        self._budget = ReplyBudget()
        self._staged: dict[tuple[int, str], StagedReply] = {}
        self._answered: dict[int, deque[tuple[str, str]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Replies are stored one at a time: the database has one writer.
        self._storing = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Receive a reply, observe what the server sends, or pass a request on."""
        path = scope.get("path")
        if path not in (PUSH_MESSAGES, PUSH_OBJECT, _OWN_MESSAGES, _OWN_OBJECT):
            await self._app(scope, receive, send)
        elif path == _OWN_OBJECT:
            self._budget.object_sent(Headers(scope=scope))
            await self._app(scope, receive, send)
        elif (body := await read_body(receive)) is None:
            return
        elif path == _OWN_MESSAGES:
            await self._observe(scope, body)
            await self._app(scope, replay(body, receive), send)
        else:
            handle = self._announce if path == PUSH_MESSAGES else self._receive
            try:
                response = await handle(scope, body)
            except ReplyRejectedError as rejected:
                sender = describe_node(scope[NODE], self._names)
                text = f"Rejected a reply of {sender} at {caller(scope)}: {rejected}. Nothing of it is stored."
                kind = " ".join(str(rejected).split()[:3])  # the reason, without its numbers
                self._rejections.warn(sender, kind, text)
                # Flower's SuperNode drops a reply after this status, and goes on.
                await respond(403, f"rejected: {rejected}", scope, receive, send)
                return
            await Response(response.SerializeToString(), media_type=_PROTOBUF)(scope, receive, send)

    async def _observe(self, scope: Scope, body: bytes) -> None:
        """Measure the messages that the server's own app announces, for the budget of the replies."""
        try:
            request = runtime_pb2.PushAppMessagesRequest.FromString(body)
        except DecodeError:  # Flower rejects it
            return
        if request.messages_list:
            ids = object_ids(request.message_object_trees)
            stored = await run_in_threadpool(stored_size, _state(scope).object_store, ids)
            run_id = request.messages_list[0].metadata.run_id
            if not await run_in_threadpool(_state(scope).get_message_ids_from_run_id, run_id):
                self._budget.run_begins(run_id)
            self._budget.message_begins(Headers(scope=scope), run_id, len(ids), stored)

    async def _announce(self, scope: Scope, body: bytes) -> Message:
        """Accept the announcement of a reply; the response asks for its parts.

        Raises:
            ReplyRejectedError: it is not accepted.
        """
        node, state = scope[NODE], _state(scope)
        request = _parse(fleet_pb2.PushMessagesRequest, body, node)
        metadata = _check_announcement(request, node, len(body))
        name, answers = metadata.message_id, metadata.reply_to_message_id
        before = self._answered.get(node, ())
        if (answers, name) in before:  # sent again, because the response was lost
            return _announcement_response(name, [])
        sent = await run_in_threadpool(find_open, state, metadata)
        if sent is None or self._has_answered(metadata):
            raise ReplyRejectedError("it answers no open message to this node; it may be late")
        _address(request, sent)
        key = node, name
        if key not in self._staged:
            limits = self._budget.limits(metadata.run_id)
            staged = await self._check(state, request, StagedReply, request, limits, self._folder)
            await self._drop_closed(state)
            if key in self._staged:  # announced twice at the same time
                staged.close()
                return _announcement_response(name, self._staged[key].missing)
            for old in [other for other in self._staged if other[0] == node][: 1 - _MAX_STAGED]:
                self._staged.pop(old).close()
            self._staged[key] = staged
        return _announcement_response(name, self._staged[key].missing)

    async def _drop_closed(self, state: Any) -> None:
        """Drop unfinished replies that nobody waits for any more: of runs that have ended, and of removed members."""
        waiting = {key: staged.metadata.reply_to_message_id for key, staged in self._staged.items()}
        found = await run_in_threadpool(open_messages, state, waiting.values())
        for key, message in waiting.items():
            if message not in found and (staged := self._staged.pop(key, None)):
                staged.close()

    async def _receive(self, scope: Scope, body: bytes) -> Message:
        """Receive a part of a reply, and after the last one hand the reply to Flower.

        Raises:
            ReplyRejectedError: the reply is not accepted.
        """
        node, state = scope[NODE], _state(scope)
        request = _parse(message_pb2.PushObjectRequest, body, node)
        key = node, request.session_id
        staged = self._staged.get(key)
        if staged is None:
            is_repeated = any(name == request.session_id for _, name in self._answered.get(node, ()))
            if not is_repeated:
                sender = describe_node(node, self._names)
                self._rejections.warn(sender, "part", f"Rejected a part of {sender}: it belongs to no announced reply.")
            return message_pb2.PushObjectResponse(stored=is_repeated)
        await self._check(state, staged.request, staged.add, request.object_id, request.object_content)
        if staged.is_complete:
            await self._check(state, staged.request, staged.check)
            if self._staged.pop(key, None):  # not another thread, with the part before
                if self._has_answered(staged.metadata):
                    staged.close()
                    raise ReplyRejectedError("it is a second reply to one message")
                self._remember(staged.metadata, request.session_id)
                # Not awaited: Flower's SuperNode waits 30 s for a response, and storing a large base may take longer.
                self._start(self._hand_on(staged, state))
        return message_pb2.PushObjectResponse(stored=True)

    async def _check(self, state: Any, request: Any, check: Callable[..., _Result], *arguments: Any) -> _Result:
        """Run a check of an announced reply. If it rejects the reply, the server's app gets an error in its place."""
        metadata = request.messages_list[0].metadata
        try:
            return await run_in_threadpool(check, *arguments)
        except ReplyRejectedError as rejected:
            if staged := self._staged.pop((metadata.src_node_id, metadata.message_id), None):
                staged.close()
            if not self._has_answered(metadata):
                self._remember(metadata, "")
                reason = f"the server rejected its reply: {rejected}"
                answer = self._start(answer_with_error(request, UNREADABLE_REPLY, reason, state))
                await asyncio.wait({answer}, timeout=_MAX_RESPONSE)
            raise

    def _has_answered(self, metadata: Any) -> bool:
        """Whether another reply of a node was accepted or rejected that answers the same message."""
        answered = self._answered.get(metadata.src_node_id, ())
        return any(metadata.reply_to_message_id == message for message, _ in answered)

    def _remember(self, metadata: Any, name: str) -> None:
        """Note that a message is answered, and by which reply; empty: by none that was accepted."""
        answered = self._answered.setdefault(metadata.src_node_id, deque(maxlen=_REMEMBERED))
        answered.append((metadata.reply_to_message_id, name))

    async def _hand_on(self, staged: StagedReply, state: Any) -> None:
        async with self._storing:
            await hand_on(staged, state, describe_node(staged.metadata.src_node_id, self._names))

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something that no request waits for."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _address(request: Any, sent: Any) -> None:
    """Write what follows from the message that a reply answers: Flower stores what the node says, also NaN as a time.

    A running time that cannot be is left out: Flower adds it to those of the run.
    """
    metadata = request.messages_list[0].metadata
    metadata.dst_node_id = unsigned(sent["src_node_id"])
    metadata.message_type, metadata.group_id = sent["message_type"], sent["group_id"]
    metadata.created_at = time.time()
    metadata.ttl = sent["created_at"] + sent["ttl"] - metadata.created_at
    if not all(0 <= seconds <= metadata.created_at - sent["created_at"] for seconds in request.clientapp_runtime_list):
        del request.clientapp_runtime_list[:]


def _parse(kind: type[Any], body: bytes, node: int) -> Any:
    try:
        request = kind.FromString(body)
    except DecodeError:
        raise ReplyRejectedError("it cannot be read") from None
    if request.node.node_id != node:
        raise ReplyRejectedError(f"it is sent as node {request.node.node_id}, but node {node} signed the request")
    return request


def _check_announcement(request: Any, node: int, size: int) -> Any:
    """Check that an announcement is of one reply of its sender; returns the reply's metadata."""
    if size > _MAX_ANNOUNCEMENT:
        raise ReplyRejectedError(f"its announcement is larger than {_MAX_ANNOUNCEMENT // 2**20} MiB")
    if (len(request.messages_list), len(request.message_object_trees)) != (1, 1):
        raise ReplyRejectedError(f"it is one of {len(request.messages_list)} at once")
    metadata = request.messages_list[0].metadata
    if metadata.src_node_id != node:
        raise ReplyRejectedError(
            f"it names node {metadata.src_node_id} as its sender, but node {node} signed the request"
        )
    if metadata.message_id != request.message_object_trees[0].object_id:
        raise ReplyRejectedError("its announcement is of another message")
    return metadata


def _announcement_response(name: str, missing: list[str]) -> Message:
    return fleet_pb2.PushMessagesResponse(
        reconnect=fleet_pb2.Reconnect(reconnect=5), results={name: 0}, objects_to_push=missing, session_id=name
    )


def _state(scope: Scope) -> Any:
    return scope["app"].state.linkstate_factory.state()
