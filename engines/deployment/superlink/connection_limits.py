"""Bounds the connections to the server, so that idle ones cannot lock members out.

A connection costs a file descriptor and memory from the moment it is accepted, long before a request tells who it is
from. So the bounds are applied where connections are accepted, below TLS and HTTP: each has a deadline for its next
request, and when an address, or all together, have too many, the one that has waited longest is closed for the new one.
"""

import asyncio
import contextlib
import ipaddress
import resource
import socket
from collections.abc import Collection
from typing import Any

from coldfusion_fl.engines.deployment.superlink.rejection_log import RejectionLog

# Seconds until a connection must have sent the head of its next request. Before the first one, TLS is negotiated.
FIRST_REQUEST = 15.0
# Connections that may be accepted in one turn of the event loop, before those that were closed for them are gone.
BACKLOG = 64
_MAX_CONNECTIONS = 512
_MIN_CONNECTIONS = 32
# Members behind one address, such as a company's, share its part.
_ADDRESS_PART = 4
# Descriptors that are not for members: of the database (15 connections with up to three files each), of logs and
# staged replies, of the server's own processes, and of connections that are being closed.
_RESERVED = 200 + BACKLOG
_LOCAL_CONNECTIONS = 128
_WANTED_DESCRIPTORS = 4096
_LOCAL = "this machine"


class Connection(socket.socket):
    """An accepted connection.

    Attributes:
        peer: the address and port of the other side.
        group: the connections that are counted together: an IPv4 address, or an IPv6 network of 64 bits.
        waits: whether no request is being served; only then it may be closed.
        is_known: whether it has sent a request that was not rejected: others are closed first.
    """

    peer: tuple[str, int] = ("", 0)
    group = ""
    requests = 0
    is_known = False
    limits: "ConnectionLimits | None" = None
    deadline: asyncio.TimerHandle | None = None

    @property
    def waits(self) -> bool:
        """Whether no request of it is being answered."""
        return not self.requests

    def close(self) -> None:
        """Close it; it is no longer counted."""
        if self.limits:
            self.limits.remove(self)
        super().close()

    def abort(self) -> None:
        """End it in both directions. The event loop, which owns it, then closes it as if the other side had."""
        if self.limits:
            self.limits.remove(self)
        with contextlib.suppress(OSError):  # the other side was faster
            self.shutdown(socket.SHUT_RDWR)


class Listener(socket.socket):
    """A listening socket that accepts connections within the limits. `limits` must be set before it listens."""

    limits: "ConnectionLimits"

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept the next connection that the limits admit.

        Raises:
            BlockingIOError: there is none.
        """
        while True:
            accepted, address = super().accept()
            connection = Connection(fileno=accepted.detach())
            if self.limits.admit(connection, address):
                return connection, address
            connection.close()


class ConnectionLimits:
    """Counts the connections, and closes the ones that wait longest when there are too many.

    Args:
        rejections: logs them.
        proxies: addresses of trusted proxies, which connect for many members: only the total bounds them.
        total: the largest number of connections from other machines; None: as many as the file descriptors allow.
        first_request: seconds until a connection must have sent the head of its next request.
    """

    def __init__(
        self,
        rejections: RejectionLog,
        proxies: Collection[str] = (),
        total: int | None = None,
        first_request: float = FIRST_REQUEST,
    ) -> None:
        self._rejections = rejections
        self._proxies = proxies
        self.total = total or max_connections()
        self.per_address = max(1, self.total // _ADDRESS_PART)
        self._first_request = first_request
        self._connections: dict[tuple[str, int], Connection] = {}

    def __len__(self) -> int:
        return len(self._connections)

    def admit(self, connection: Connection, address: Any) -> bool:
        """Count an accepted connection. False: there are too many, and all of them are busy."""
        host, port = address[:2]
        group = _LOCAL if _is_local(connection, host) else address_group(host)
        if group == _LOCAL:
            # The server's own processes are counted apart, so that others cannot use up what they need.
            bounds = [(lambda other: other.group == _LOCAL, _LOCAL_CONNECTIONS)]
        else:
            own = self.total if host in self._proxies else self.per_address
            bounds = [(lambda other: other.group == group, own), (lambda other: other.group != _LOCAL, self.total)]
        for belongs, bound in bounds:
            crowd = [other for other in self._connections.values() if belongs(other)]
            if len(crowd) >= bound:
                waiting = [other for other in crowd if other.waits]
                self._rejections.warn(
                    host, "too many connections", f"Too many connections: {len(crowd)} are open, one more from {host}."
                )
                if not waiting:
                    return False
                # The oldest first; one that was never of use before one that a member keeps open.
                min(waiting, key=lambda other: other.is_known).abort()
        connection.peer, connection.group, connection.limits = (host, port), group, self
        self._connections[connection.peer] = connection
        self._await_request(connection)
        return True

    def request_begins(self, peer: tuple[str, int] | None) -> None:
        """The head of a request has arrived: its connection is busy."""
        if connection := self._connections.get(peer or ("", 0)):
            connection.requests += 1
            if connection.deadline:
                connection.deadline.cancel()

    def request_ends(self, peer: tuple[str, int] | None, is_known: bool) -> None:
        """A request has been answered: its connection waits for the next one."""
        if connection := self._connections.get(peer or ("", 0)):
            connection.requests -= 1
            connection.is_known |= is_known
            if connection.waits:
                self._await_request(connection)

    def remove(self, connection: Connection) -> None:
        """Count a connection no more."""
        if connection.deadline:
            connection.deadline.cancel()
        if self._connections.get(connection.peer) is connection:
            del self._connections[connection.peer]

    def _await_request(self, connection: Connection) -> None:
        connection.deadline = asyncio.get_running_loop().call_later(self._first_request, self._expire, connection)

    def _expire(self, connection: Connection) -> None:
        if not connection.is_known:
            host = connection.peer[0]
            self._rejections.warn(
                host, "no request", f"Closed a connection from {host}: no request within {self._first_request:.0f} s."
            )
        connection.abort()


def max_connections() -> int:
    """The number of connections from other machines that this process has file descriptors for."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(_MAX_CONNECTIONS, max(_MIN_CONNECTIONS, descriptors - _RESERVED - _LOCAL_CONNECTIONS))


def raise_descriptor_limit() -> None:
    """Allow this process the file descriptors that it wants, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(_WANTED_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def listeners(host: str, port: int, limits: ConnectionLimits) -> list[Listener]:
    """Sockets that are bound to all addresses of a host, and do not listen yet.

    Raises:
        OSError: an address cannot be bound.
    """
    found: list[Listener] = []
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        listener = Listener(family, kind, protocol)
        listener.limits = limits
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:  # otherwise IPv4 addresses would have two forms
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        found.append(listener)
    return found


def address_group(host: str) -> str:
    """What is counted as one address: of IPv6 the network of 64 bits, all of which a single machine may have."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else host


def _is_local(connection: socket.socket, host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback or connection.getsockname()[0] == host
    except (OSError, ValueError):
        return False
