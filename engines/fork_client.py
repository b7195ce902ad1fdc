"""The command that Ray starts for a worker process, in place of Python. It has `fork_server` fork the worker.

    python -I -S fork_client.py SOCKET SCRIPT [ARGUMENT ...]

It is run by its path and without installed packages, so that it takes no time. It lives as long as the worker. If no
worker could be forked, it becomes the worker itself.
"""

import contextlib
import json
import os
import socket
import struct
import sys

# The size of the request comes first.
SIZE_BYTES = 4
# The worker sends this before it runs the script.
STARTED = b"1"
_CREDENTIALS = "iII"  # process, user and group, of unix(7)


def main() -> None:
    """Have a forked process run the script, with the environment and the output of this process."""
    name, *command = sys.argv[1:]
    connection = socket.socket(socket.AF_UNIX)
    if not _request_worker(connection, name, command):
        os.execv(sys.executable, [sys.executable, *command])
    with contextlib.suppress(ConnectionResetError):
        connection.recv(1)  # the connection closes when the worker ends


def _request_worker(connection: socket.socket, name: str, command: list[str]) -> bool:
    """Send a request to the fork server, and wait until the worker has started; whether it has."""
    request = json.dumps({"command": command, "environment": dict(os.environ)}).encode()
    try:
        connection.connect(f"\0{name}")
        if not is_own(connection):  # the fork server has ended, and another user has taken its name, which is public
            return False
        socket.send_fds(connection, [len(request).to_bytes(SIZE_BYTES, "big")], [0, 1, 2])
        connection.sendall(request)
        return connection.recv(len(STARTED)) == STARTED
    except OSError:
        return False


def is_own(connection: socket.socket) -> bool:
    """Whether a process of this user is at the other end, which may run any command here and see all variables."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_CREDENTIALS))
    _, user, _ = struct.unpack(_CREDENTIALS, credentials)
    return bool(user == os.geteuid())


if __name__ == "__main__":
    main()
