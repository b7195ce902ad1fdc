"""A stranger without a key: it holds idle connections, and sends requests whose bodies never end.

On loopback it has the address of the members, and so a share of their connections.
"""

import contextlib
import socket
import ssl
import threading

_MIB = 2**20
_INTERVAL = 15.0  # seconds between two looks at the connections


class Stranger(threading.Thread):
    """Keeps connections open until it is stopped, and opens new ones for those that the server closed.

    Args:
        host: of the server.
        port: of the server.
        idle: the number of TLS connections without a request.
        unfinished: the number of requests that declare 60 MiB and send 1 MiB.
    """

    def __init__(self, host: str, port: int, idle: int = 100, unfinished: int = 8) -> None:
        super().__init__(name="stranger", daemon=True)
        self._address = host, port
        self._wanted = [False] * idle + [True] * unfinished
        self._connections: list[ssl.SSLSocket | None] = [None] * len(self._wanted)
        self._over = threading.Event()
        self.opened = self.rejected = 0

    def stop(self) -> None:
        """Close the connections."""
        self._over.set()
        self.join(60)

    def run(self) -> None:
        """Keep the connections open."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        while not self._over.wait(_INTERVAL):
            for number, sends_body in enumerate(self._wanted):
                if not self._over.is_set() and not self._is_open(number):
                    self._open(number, context, sends_body=sends_body)
        for connection in filter(None, self._connections):
            connection.close()

    def _is_open(self, number: int) -> bool:
        connection = self._connections[number]
        if connection is None:
            return False
        connection.setblocking(False)
        try:
            closed = connection.recv(4096) == b""
        except ssl.SSLWantReadError:
            return True
        except OSError:
            closed = True
        if closed:
            connection.close()
            self._connections[number] = None
        return not closed

    def _open(self, number: int, context: ssl.SSLContext, *, sends_body: bool) -> None:
        try:
            connection = context.wrap_socket(socket.create_connection(self._address, timeout=5))
        except OSError:
            self.rejected += 1
            return
        self._connections[number] = connection
        self.opened += 1
        if sends_body:
            lines = ["POST /v1/fleet/push-object HTTP/1.1", f"Host: {self._address[0]}", f"Content-Length: {60 * _MIB}"]
            with contextlib.suppress(OSError):
                connection.sendall("\r\n".join([*lines, "", ""]).encode() + bytes(_MIB))
