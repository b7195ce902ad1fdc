"""Limits what other machines may request from the server.

Flower 1.42 serves three interfaces on one port. Members need the Fleet interface, which authenticates them by their
keys. The other two interfaces have no authentication. By the Control interface anybody could start a run, which is
code, or register a node. The Runtime interface is for the server's own processes. So both are open to this machine
only.
"""

import ipaddress
from collections.abc import Collection
from http import HTTPStatus
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coldfusion_fl.engines.deployment.superlink.connection_limits import ConnectionLimits
from coldfusion_fl.engines.deployment.superlink.rejection_log import RejectionLog
from coldfusion_fl.sanitize import sanitize
from coldfusion_fl.versions import VERSIONS_HEADER, format_versions

FLEET = "/v1/fleet/"
# Strangers may send a body to this path only, to ask to be admitted.
ADMISSION = f"{FLEET}activate-node"
# A new run's app has at most 10 MB, and a part of an array 5 MB.
_MAX_LOCAL_REQUEST = 64 * 2**20
MAX_PATH = 200
_FORWARDED_FOR = "x-forwarded-for"
_PROXY_HEADERS = ("forwarded", "via", "x-real-ip", "x-client-ip", "true-client-ip")


class AccessControl:
    """ASGI middleware: other machines reach the Fleet interface only; a header of every response has our versions.

    Args:
        app: the next ASGI application.
        rejections: logs what is rejected; None: a log of its own.
        limits: counts the requests of each connection; None: they are not counted.
        proxies: the addresses of trusted proxies, which name the address that a request comes from.
    """

    def __init__(
        self,
        app: ASGIApp,
        rejections: RejectionLog | None = None,
        limits: ConnectionLimits | None = None,
        proxies: Collection[str] = (),
    ) -> None:
        self._app = app
        self._rejections = rejections or RejectionLog()
        self._limits = limits
        self._proxies = proxies
        self._header = (VERSIONS_HEADER.encode(), format_versions().encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or respond with an error."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        status = int(HTTPStatus.BAD_REQUEST)

        async def send_with_versions(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), self._header]}
            await send(message)

        if self._limits is None:
            await self._control(scope, receive, send_with_versions)
            return
        limits, peer, is_busy = self._limits, scope.get("client"), False

        def begin() -> None:
            nonlocal is_busy
            if not is_busy:
                limits.request_begins(peer)
                is_busy = True

        async def receive_and_begin() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                begin()
            return message

        # A stranger's connection must not count as busy for a body that never comes.
        if scope["path"] != ADMISSION:
            begin()
        try:
            await self._control(scope, receive_and_begin, send_with_versions)
        finally:
            if is_busy:
                limits.request_ends(peer, status < HTTPStatus.BAD_REQUEST)

    async def _control(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = str(scope["path"])
        # Sanitized, because a path with line breaks could forge lines of the log.
        requested = sanitize(path)[:MAX_PATH]
        is_forwarded = has_proxy_headers(scope)
        if is_forwarded and (caller(scope) not in self._proxies):
            self._reject(
                scope,
                "unknown proxy",
                f"for {requested}: it comes through a proxy that is not trusted. If the proxy is yours, name its "
                "address as trusted-proxies in federation.toml.",
            )
            await respond(403, "rejected: this proxy is not trusted", scope, receive, send)
            return
        if is_forwarded:
            scope["client"] = (forwarded_client(scope, self._proxies), 0)
        local = is_local(scope) and not is_forwarded
        if scope["type"] == "http" and local and not path.startswith(FLEET) and is_too_large(scope, _MAX_LOCAL_REQUEST):
            limit = _MAX_LOCAL_REQUEST // 2**20
            self._reject(scope, "size", f": it is larger than {limit} MiB, or does not declare its length.")
            await respond(413, "Content Too Large", scope, receive, send)
        elif scope["type"] == "http" and (path.startswith(FLEET) or local):
            await self._app(scope, receive, send)
        else:
            self._reject(scope, "path", f"for {requested}: this path is only available on the server's machine.")
            if scope["type"] == "http":
                await respond(404, "Not Found", scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1008})

    def _reject(self, scope: Scope, kind: str, reason: str) -> None:
        space = "" if reason.startswith(":") else " "
        self._rejections.warn(caller(scope), kind, f"Rejected a request from {caller(scope)}{space}{reason}")


async def respond(status: int, detail: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Respond with an error, and close the connection: what is left of the request's body is not read."""
    response = JSONResponse({"detail": detail}, status_code=status, headers={"connection": "close"})
    await response(scope, receive, send)


def is_too_large(scope: Scope, limit: int) -> bool:
    """Whether a request has more bytes than the limit, or does not declare its length."""
    headers = Headers(scope=scope)
    if "transfer-encoding" in headers:
        return True
    length = headers.get("content-length", "0")
    return not (length.isascii() and length.isdigit() and len(length) < 20) or int(length) > limit


def is_local(scope: Scope) -> bool:
    """Whether a request comes from this machine: over loopback, or from the address that it is sent to.

    The address must be the connection's own: one that a header names could be anything.
    """
    client, server = scope.get("client"), scope.get("server")
    if not client:
        return False
    try:
        address = ipaddress.ip_address(client[0])
    except ValueError:
        return False
    return address.is_loopback or bool(server and client[0] == server[0])


def has_proxy_headers(scope: Scope) -> bool:
    """Whether a proxy has forwarded the request.

    A proxy on this machine connects over loopback, and would make every stranger local. Some add no header unless they
    are told to, but speak HTTP/1.0, as nginx did until 1.29; Flower and this package never do.
    """
    names = [name.decode("latin-1") for name, _ in scope.get("headers", ())]
    return scope.get("http_version") == "1.0" or any(
        name in _PROXY_HEADERS or name.startswith("x-forwarded-") for name in names
    )


def forwarded_client(scope: Scope, proxies: Collection[str]) -> str:
    """The address that a trusted proxy names: the last in the list that is not a trusted proxy itself.

    Addresses before that one were written by the client, and could be anything.
    """
    values = Headers(scope=scope).getlist(_FORWARDED_FOR)
    for host in reversed([host.strip() for value in values for host in value.split(",")]):
        if host not in proxies:
            try:
                return str(ipaddress.ip_address(host))
            except ValueError:
                break
    return str(caller(scope))


def caller(scope: Scope) -> Any:
    """The address that a request comes from."""
    client = scope.get("client")
    return client[0] if client else "an unknown address"
