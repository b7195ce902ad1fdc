"""Ends of connections on loopback: one that can be cut, and a server of a handshake; importable without pytest."""

import contextlib
import socket
import threading


class CuttableConnection:
    """Passes on what comes to its port; no more while it is cut.

    Args:
        port: the server's, on this machine.
    """

    def __init__(self, port):
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._ends = []
        self._is_cut = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        """End all connections, and let none come about."""
        self._is_cut = True
        for end in self._ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self):
        """Let connections come about again."""
        self._is_cut = False

    def _accept(self):
        while True:
            near, _ = self._listener.accept()
            if self._is_cut:
                near.close()
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self._target))
            except OSError:  # the server is away
                near.close()
                continue
            self._ends += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, sink), daemon=True).start()


def _pump(source, sink):
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def tls_server(context=None, port=0):
    """A server that accepts and hangs up, with TLS or without; yields its port."""
    with socket.create_server(("127.0.0.1", port)) as server:

        def accept():
            while True:
                try:
                    plain, _ = server.accept()
                except OSError:
                    return
                with plain, contextlib.suppress(OSError):
                    if context:
                        context.wrap_socket(plain, server_side=True).close()
                    else:
                        plain.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        # To close it is not enough: it listens on until `accept` returns.
        server.shutdown(socket.SHUT_RDWR)
        thread.join(10)
