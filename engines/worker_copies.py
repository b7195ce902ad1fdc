"""Copies of the run process as Ray's worker processes.

PyTorch, transformers and what else a worker needs take four seconds of a core to load. The run process loads them once.
`start_copier` forks a process from it, the copier, which forks again for each worker that Ray starts. Ray is told to
start `copy_client` in place of Python, which sends the command of the worker here.

Neither process may have used a thread pool, CUDA or Ray before: these do not work in a copy. So the copier is started
before the run process computes anything.
"""

import gc
import json
import logging
import os
import runpy
import secrets
import select
import shlex
import signal
import socket
import struct
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any, NoReturn

from coldfusion_fl.config.settings import SimulationSettings

_POLL = 1.0  # seconds
_ARGUMENTS, _OUTPUT = ["-I", "-S"], 3
# The size of the request comes first.
_SIZE_BYTES = 4


def can_copy(share: SimulationSettings) -> bool:
    """Whether the workers of a simulation can be copies.

    A cluster starts its workers itself. CUDA, and libraries of macOS, do not work in a copy.
    """
    return sys.platform == "linux" and not share.address and not share.gpus


def start_copier(threads: int) -> str:
    """Fork the process that makes the copies. It ends with this process.

    Args:
        threads: the number of threads that a worker computes with, if OMP_NUM_THREADS does not set it.

    Returns:
        The command that Ray starts in place of Python.
    """
    name = f"coldfusion-{os.getpid()}-{secrets.token_hex(8)}"
    listener = socket.socket(socket.AF_UNIX)
    # An abstract name, which needs no file. It has no permissions either: see `_is_own`.
    listener.bind(f"\0{name}")
    listener.listen()
    sys.stdout.flush()
    sys.stderr.flush()
    # The collector would write to the memory of all objects, which copies then no longer share.
    gc.freeze()
    parent = os.getpid()
    if _fork():
        listener.close()
        return shlex.join([sys.executable, *_ARGUMENTS, str(Path(__file__).with_name("copy_client.py")), name])
    try:
        _make_copies(listener, parent, threads)
    except BaseException:
        traceback.print_exc()
    os._exit(0)


def _fork() -> int:
    with warnings.catch_warnings():
        # Newer versions of Python warn of all threads. Ours only watches the parent, and those of numpy start again.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _make_copies(listener: socket.socket, parent: int, threads: int) -> None:
    """Fork for each request, until the run process ends."""
    # The run process' pipes to its parent must close when it ends.
    os.closerange(3, listener.fileno())
    os.closerange(listener.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the copies
    while os.getppid() == parent:
        if select.select([listener], [], [], _POLL)[0]:
            _answer(listener, threads)


def _answer(listener: socket.socket, threads: int) -> None:
    connection, _ = listener.accept()
    files: list[int] = []
    try:
        if not _is_own(connection):
            return
        size, files, *_ = socket.recv_fds(connection, _SIZE_BYTES, _OUTPUT)
        with connection.makefile("rb") as stream:
            request = json.loads(stream.read(int.from_bytes(size, "big")))
        if _fork() == 0:
            listener.close()
            _be_worker(request, files, threads)
    except (OSError, ValueError):  # the client was killed while it sent
        traceback.print_exc()
    finally:
        for file in files:
            os.close(file)
        connection.close()


def _is_own(connection: socket.socket) -> bool:
    """Whether a process of this user is at the other end: it may run any command here."""
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return bool(user == os.getuid())


def _be_worker(request: dict[str, Any], files: list[int], threads: int) -> NoReturn:
    """Run the script of a request as Python would, and end this process."""
    code = 1
    try:
        _become_new(request["environment"], files, threads)
        sys.argv = request["command"]
        runpy.run_path(sys.argv[0], run_name="__main__")
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _become_new(environment: dict[str, str], files: list[int], threads: int) -> None:
    """Undo what is the run process' own: signals, standard files, environment, log and number of threads."""
    import torch
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for number, file in enumerate(files):
        os.dup2(file, number)
    # What is equal stays: Ray finds the place of the process' name in front of the first variable that it began with.
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update({name: value for name, value in environment.items() if os.environ.get(name) != value})
    own_log = logging.getLogger("coldfusion_fl")
    own_log.handlers.clear()
    own_log.setLevel(logging.NOTSET)
    own_log.propagate = True
    if "OMP_NUM_THREADS" not in environment:  # Ray sets it too late: the libraries read it when they are loaded
        torch.set_num_threads(threads)
        threadpool_limits(threads)
