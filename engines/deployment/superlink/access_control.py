"""What the world may ask of the server.

Flower 1.42 serves three interfaces on one port. Members need the Fleet interface, and prove who they are there by
their keys. The other two ask nobody who he is: with the Control interface anybody could start a run, which is code, or
admit a node; the Runtime interface is for the server's own processes. Both are for this machine alone.
"""

import ipaddress
import logging
from typing import Any

from flwr.common import log
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coldfusion_fl.sanitize import sanitize
from coldfusion_fl.versions import VERSIONS_HEADER, format_versions

_FOR_ALL = "/v1/fleet/"
# Flower sends arrays in pieces of 5 MB. It reads a request whole before it asks whose it is, so that a stranger's
# could fill the memory.
_LARGEST = 64 * 2**20
# A reply comes after its arrays, which it only names: 70 bytes for each piece of them.
REPLIES = "/v1/fleet/push-messages"
_LARGEST_REPLY = 2**20
_LONGEST_PATH = 200


class AccessControl:
    """ASGI middleware: others than this machine reach the Fleet interface alone; every answer says our versions.

    Args:
        app: what stands behind the gate.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._header = (VERSIONS_HEADER.encode(), format_versions().encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer that there is nothing here."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def sign(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), self._header]}
            await send(message)

        path = str(scope["path"])
        if scope["type"] == "http" and (path.startswith(_FOR_ALL) or is_local(scope)):
            limit = _LARGEST_REPLY if path == REPLIES else _LARGEST
            if is_too_large(scope, limit):
                log(logging.WARNING, "%s sent more than %d MiB at once: rejected", caller(scope), limit // 2**20)
                await JSONResponse({"detail": "Content Too Large"}, status_code=413)(scope, receive, sign)
                return
            await self._app(scope, receive, sign)
            return
        asked = sanitize(path)[:_LONGEST_PATH]  # it may not forge lines of the log
        log(logging.WARNING, "%s asked for %s, which is for this machine alone: rejected", caller(scope), asked)
        if scope["type"] == "http":
            await JSONResponse({"detail": "Not Found"}, status_code=404)(scope, receive, sign)
        else:
            await send({"type": "websocket.close", "code": 1008})


def is_too_large(scope: Scope, limit: int) -> bool:
    """Whether a request has more bytes than may be, or does not say how many."""
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers:
        return True
    length = headers.get("content-length", "0")
    return not length.isdecimal() or int(length) > limit


def is_local(scope: Scope) -> bool:
    """Whether a request comes from this machine: over loopback, or from the address that it arrived at."""
    client, server = scope.get("client"), scope.get("server")
    if not client:
        return False
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return False
    return address.is_loopback or bool(server and client[0] == server[0])


def caller(scope: Scope) -> Any:
    """The address that a request comes from."""
    client = scope.get("client")
    return client[0] if client else "somebody"
