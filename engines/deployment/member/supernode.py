"""Flower's SuperNode, whose process ends when the SuperNode fails, with its own way to start processes for messages.

`python -m coldfusion_fl.engines.deployment.member.supernode` takes the arguments of `flower-supernode`, among them
`--port N`, and the environment variable FLWR_HOME. When a connection breaks during a TLS handshake, Flower's SuperNode
fails but then waits for a thread that never ends, so the supervisor would not start it again.
"""

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from coldfusion_fl.atomic_files import write_private
from coldfusion_fl.engines.deployment.supervisor import end_process, end_process_after, exit_with_supervisor, program
from coldfusion_fl.engines.flower_internals import flower_supernode

# macOS has libraries that cannot be used after a fork. There, Flower starts a new Python for each message.
_FORKS = sys.platform == "linux"
_POLL = 0.1  # seconds
# The time that the SuperNode has to sign off from the server; without that, it could not come back for a minute.
_SIGN_OFF = 5.0


def main() -> None:
    """Run the SuperNode, and end the process with it in every case."""
    exit_with_supervisor()
    if _FORKS:
        port, secret = int(sys.argv[sys.argv.index("--port") + 1]), _write_secret()
        sys.argv += ["--isolation", "process", "--superexec-auth-secret-file", str(secret)]
        threading.Thread(target=_run_executor, args=(port, secret), name="executor", daemon=True).start()
    end_process_after(flower_supernode)


def _write_secret() -> Path:
    """A file with a new secret: only a process that can read it is given messages by the SuperNode."""
    file = Path(os.environ["FLWR_HOME"], "executor.secret")
    file.unlink(missing_ok=True)
    write_private(file, secrets.token_bytes(32))
    return file


def _run_executor(port: int, secret: Path) -> None:
    """Run the program that handles messages until it ends, and then end this process too."""
    # Another user's program that listens on the port would be asked for messages, and could send any.
    while not _listens(port):
        time.sleep(_POLL)
    code = subprocess.run(
        [
            *program("coldfusion_fl.engines.deployment.member.executor"),
            *("--runtime-api-address", f"127.0.0.1:{port}", "--insecure"),
            *("--superexec-auth-secret-file", str(secret)),
            *("--parent-pid", str(os.getpid())),
        ],
        check=False,
    ).returncode
    time.sleep(_SIGN_OFF)  # if all is ended, the executor is the first one
    print(f"The executor of messages has ended with code {code}.", flush=True)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_SIGN_OFF)
    end_process(1)


def _listens(port: int) -> bool:
    """Whether this process listens on a port of this machine."""
    connections = psutil.Process().net_connections("tcp")
    return any(one.status == psutil.CONN_LISTEN and one.laddr.port == port for one in connections)


if __name__ == "__main__":
    main()
