"""Flower's SuperNode, whose process ends when the SuperNode fails, with its own way to start processes for messages.

`python -m coldfusion_fl.engines.deployment.member.supernode` takes the arguments of `flower-supernode`. When a
connection breaks during a TLS handshake, Flower's SuperNode fails but then waits for a thread that never ends, so the
supervisor would not start it again.
"""

import os
import secrets
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

from coldfusion_fl.engines.deployment.supervisor import exit_with_supervisor, program
from coldfusion_fl.engines.flower_internals import flower_supernode

# macOS has libraries that cannot be used after a fork. There, Flower starts a new Python for each message.
_FORKS = sys.platform == "linux"


def main() -> None:
    """Run the SuperNode, and end the process with it in every case."""
    exit_with_supervisor()
    if _FORKS:
        secret = _write_secret()
        _start_executor(sys.argv[sys.argv.index("--port") + 1], secret)
        sys.argv += ["--isolation", "process", "--superexec-auth-secret-file", str(secret)]
    code: object = 0
    try:
        flower_supernode()
    except SystemExit as exit_:
        code = exit_.code
    except BaseException:
        traceback.print_exc()
        code = 1
    _exit(code if isinstance(code, int) else int(code is not None))


def _write_secret() -> Path:
    """A file with a new secret: only a process that can read it is given messages by the SuperNode."""
    file = Path(os.environ["FLWR_HOME"], "executor.secret")
    file.unlink(missing_ok=True)
    with open(file, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as opened:
        opened.write(secrets.token_bytes(32))
    return file


def _start_executor(port: str, secret: Path) -> None:
    """Start the program that handles messages. It ends with this process, and this process with it."""
    process = subprocess.Popen(
        [
            *program("coldfusion_fl.engines.deployment.member.executor"),
            *("--runtime-api-address", f"127.0.0.1:{port}", "--insecure"),
            *("--superexec-auth-secret-file", str(secret)),
            *("--parent-pid", str(os.getpid())),
        ]
    )

    def watch() -> None:
        print(f"The executor of messages ended with code {process.wait()}.")
        _exit(1)

    threading.Thread(target=watch, name="executor", daemon=True).start()


def _exit(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
