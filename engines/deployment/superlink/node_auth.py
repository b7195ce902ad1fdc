"""Admits requests of members from their headers, before a byte of their bodies is kept.

Flower reads a whole request into memory and then checks who signed it. The signature and the key are in the headers and
do not depend on the body. So only members' bodies are read, with a limit of size and of time, and of a stranger's
the few bytes that ask for admission.
"""

import asyncio
import base64
import binascii
import datetime
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coldfusion_fl.engines.deployment.superlink.access_control import (
    ADMISSION,
    FLEET,
    MAX_PATH,
    caller,
    is_too_large,
    respond,
)
from coldfusion_fl.engines.deployment.superlink.rejection_log import RejectionLog
from coldfusion_fl.engines.flower_internals import (
    FLEET_HTTP_PUBLIC_KEY_HEADER,
    FLEET_HTTP_SIGNATURE_HEADER,
    SYSTEM_TIME_TOLERANCE,
    TIMESTAMP_HEADER,
    TIMESTAMP_TOLERANCE,
    bytes_to_public_key,
    verify_signature,
)
from coldfusion_fl.sanitize import sanitize

# Flower sends arrays in parts of 5 MB; everything else is smaller.
MAX_REQUEST = 8 * 2**20
# Flower's answer to it tells a stranger, or `coldfusion member check`, that its key is unknown.
_MAX_ADMISSION = 4096
# The time for a body: slower connections than this cannot take part in a run anyway.
_BODY_SECONDS, _BODY_RATE = 20.0, 16 * 1024
# Flower's SuperNode sends two parts at a time, a heartbeat and a question for messages. More are rejected, so that a
# member's unfinished requests hold at most this number of bodies in memory, and of connections that are not closed.
_MAX_AT_ONCE = 8
# Flower's SuperNode repeats a request after this status; after another one it would end.
_TRY_AGAIN = 503
# The key under which a request carries the ID of the node that signed it.
NODE = "coldfusion.node"


class NodeAuthentication:
    """ASGI middleware: reads the bodies of members only, and passes them on whole, with the ID of the node.

    Args:
        app: the next ASGI application.
        rejections: logs what is rejected.
        names: returns the members' names by node ID, for the log.
        seconds: the time for a small body.
    """

    def __init__(
        self,
        app: ASGIApp,
        rejections: RejectionLog,
        names: Callable[[], Mapping[int, str]],
        seconds: float = _BODY_SECONDS,
    ) -> None:
        self._app = app
        self._rejections = rejections
        self._names = names
        self._seconds = seconds
        self._at_once: Counter[int] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or respond with an error."""
        if scope["type"] != "http" or not scope["path"].startswith(FLEET):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        node = await run_in_threadpool(authenticate, headers, scope["app"].state.linkstate_factory.state())
        if node is None:
            if scope["path"] == ADMISSION and not is_too_large(scope, _MAX_ADMISSION):
                await self._pass_on(scope, receive, send)
                return
            self._reject(scope, "its headers have no valid signature of a member.")
            await respond(401, "Invalid SuperNode authentication", scope, receive, send)
            return
        scope[NODE] = node
        if is_too_large(scope, MAX_REQUEST):
            self._reject(scope, f"it is larger than {MAX_REQUEST // 2**20} MiB, or does not declare its length.")
            await respond(413, "Content Too Large", scope, receive, send)
            return
        if self._at_once[node] >= _MAX_AT_ONCE:
            self._reject(scope, f"{_MAX_AT_ONCE} others of it are not finished.")
            await respond(_TRY_AGAIN, "too many requests at once", scope, receive, send)
            return
        self._at_once[node] += 1
        try:
            await self._pass_on(scope, receive, send)
        finally:
            self._at_once[node] -= 1

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = int(Headers(scope=scope).get("content-length", "0"))
        limit = self._seconds * (1 + length / (_BODY_SECONDS * _BODY_RATE))
        try:
            async with asyncio.timeout(limit):
                body = await read_body(receive)
        except TimeoutError:
            self._reject(scope, f"its {length} bytes did not arrive within {limit:.0f} s.")
            await respond(_TRY_AGAIN, "the request took too long", scope, receive, send)
            return
        if body is not None:
            await self._app(scope, replay(body, receive), send)

    def _reject(self, scope: Scope, reason: str) -> None:
        node = scope.get(NODE)
        sender = str(caller(scope)) if node is None else f"{describe_node(node, self._names)} at {caller(scope)}"
        path = sanitize(scope["path"])[:MAX_PATH]
        self._rejections.warn(sender, "request", f"Rejected a request from {sender} for {path}: {reason}")


def authenticate(headers: Mapping[str, str], state: Any) -> int | None:
    """The ID of the node whose registered key signed a request; None: no registered key did.

    The same checks as Flower's, without the one that needs the body: whether it names this node.

    Args:
        headers: of the request.
        state: Flower's state of the server.
    """
    try:
        key = base64.b64decode(headers[FLEET_HTTP_PUBLIC_KEY_HEADER], validate=True)
        signature = base64.b64decode(headers[FLEET_HTTP_SIGNATURE_HEADER], validate=True)
        timestamp = headers[TIMESTAMP_HEADER]
        age = (datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(timestamp)).total_seconds()
        if not -SYSTEM_TIME_TOLERANCE < age < TIMESTAMP_TOLERANCE + SYSTEM_TIME_TOLERANCE:
            return None
        # The key is looked up first: a signature takes longer to check.
        node: int | None = state.get_node_id_by_public_key(key)
        if node is None or not verify_signature(bytes_to_public_key(key), timestamp.encode("ascii"), signature):
            return None
        return node
    except (KeyError, ValueError, TypeError, binascii.Error):
        return None


async def read_body(receive: Receive) -> bytes | None:
    """The whole body of a request; None: the client has gone."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body)


def replay(body: bytes, receive: Receive) -> Receive:
    """The `receive` of an ASGI application whose request's body has been read already."""
    is_read = False

    async def receive_again() -> Message:
        nonlocal is_read
        if is_read:
            return await receive()
        is_read = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def describe_node(node: int, names: Callable[[], Mapping[int, str]]) -> str:
    """A node as the log names it."""
    name = names().get(node)
    return f"member '{name}'" if name else f"node {node}"
