"""Limits what other machines may request from the server.

Flower 1.42 serves three interfaces on one port. Members need the Fleet interface, which authenticates them by their
keys. The other two interfaces have no authentication. By the Control interface anybody could start a run, which is
code, or register a node. The Runtime interface is for the server's own processes. So both are open to this machine
only.
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

_FLEET = "/v1/fleet/"
# Flower sends arrays in chunks of 5 MB. It reads a whole request into memory before it authenticates the sender, so a
# large request of a stranger could fill the memory.
_MAX_REQUEST = 64 * 2**20
# A reply is sent after its arrays and only names them, with 70 bytes for each chunk.
REPLIES = "/v1/fleet/push-messages"
_MAX_REPLY = 2**20
_MAX_PATH = 200


class AccessControl:
    """ASGI middleware: other machines reach the Fleet interface only; a header of every response has our versions.

    Args:
        app: the next ASGI application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._header = (VERSIONS_HEADER.encode(), format_versions().encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or respond with an error."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_with_versions(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), self._header]}
            await send(message)

        path = str(scope["path"])
        if scope["type"] == "http" and (path.startswith(_FLEET) or is_local(scope)):
            limit = _MAX_REPLY if path == REPLIES else _MAX_REQUEST
            if is_too_large(scope, limit):
                log(
                    logging.WARNING,
                    "Rejected a request from %s: it is larger than %d MiB, or does not declare its length.",
                    caller(scope),
                    limit // 2**20,
                )
                await JSONResponse({"detail": "Content Too Large"}, status_code=413)(scope, receive, send_with_versions)
                return
            await self._app(scope, receive, send_with_versions)
            return
        # Sanitized, because a path with line breaks could forge lines of the log.
        requested = sanitize(path)[:_MAX_PATH]
        log(
            logging.WARNING,
            "Rejected a request from %s for %s: this path is only available on the server's machine.",
            caller(scope),
            requested,
        )
        if scope["type"] == "http":
            await JSONResponse({"detail": "Not Found"}, status_code=404)(scope, receive, send_with_versions)
        else:
            await send({"type": "websocket.close", "code": 1008})


def is_too_large(scope: Scope, limit: int) -> bool:
    """Whether a request has more bytes than the limit, or does not declare its length."""
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers:
        return True
    length = headers.get("content-length", "0")
    return not length.isdecimal() or int(length) > limit


def is_local(scope: Scope) -> bool:
    """Whether a request comes from this machine: over loopback, or from the address that it is sent to."""
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
    return client[0] if client else "an unknown address"
