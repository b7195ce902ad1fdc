"""What Ray starts in place of Python for a worker process: it asks `worker_copies` for a copy of the run process.

    python -I -S copy_client.py SOCKET SCRIPT [ARGUMENT ...]

It is run by its path and without installed packages, so that it takes no time. It lives as long as the worker. If the
process that makes the copies has ended, it becomes the worker itself.
"""

import json
import os
import socket
import sys


def main() -> None:
    """Have a copy run the script, with the environment and the output of this process."""
    name, *command = sys.argv[1:]
    request = json.dumps({"command": command, "environment": dict(os.environ)}).encode()
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(f"\0{name}")
        socket.send_fds(connection, [len(request).to_bytes(4, "big")], [0, 1, 2])
        connection.sendall(request)
    except OSError:
        os.execv(sys.executable, [sys.executable, *command])
    connection.recv(1)  # the copy never sends anything; its end of the connection closes when it ends


if __name__ == "__main__":
    main()
