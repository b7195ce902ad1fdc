"""A fork server for Ray's worker processes.

PyTorch, transformers and what else a worker needs take four seconds of a core to load. The run process loads them once.
`start_fork_server` forks a process from it, the fork server, which forks again for each worker. Ray starts
`fork_client` in place of Python, which sends the command of the worker here.

Neither process may have used a thread pool, CUDA or Ray before: these do not work in a forked process. So the fork
server is started before the run process computes anything.
"""

import contextlib
import ctypes
import gc
import json
import logging
import os
import runpy
import secrets
import shlex
import signal
import socket
import sys
import traceback
import warnings
from pathlib import Path
from typing import NoReturn

from coldfusion_fl.config.settings import SimulationSettings
from coldfusion_fl.engines.fork_client import SIZE_BYTES, STARTED, is_own

_REQUEST_TIMEOUT = 10.0  # seconds
_ARGUMENTS, _STANDARD_FILES = ["-I", "-S"], 3
_PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


def can_fork(share: SimulationSettings) -> bool:
    """Whether the workers of a simulation can be forked from the run process.

    A cluster starts its workers itself. CUDA, and libraries of macOS, do not work in a forked process.
    """
    return sys.platform == "linux" and not share.address and not share.gpus


def start_fork_server(threads: int) -> str:
    """Fork the fork server. It ends when the calling thread ends, which must be the main thread.

    Args:
        threads: the number of threads that a worker computes with, if OMP_NUM_THREADS does not set it.

    Returns:
        The command that Ray starts in place of Python.
    """
    name = f"coldfusion-{os.getpid()}-{secrets.token_hex(8)}"
    listener = socket.socket(socket.AF_UNIX)
    # An abstract name, which needs no file. It has no permissions either: see `is_own`.
    listener.bind(f"\0{name}")
    listener.listen()
    sys.stdout.flush()
    sys.stderr.flush()
    # The collector would write to the memory of all objects, which forked processes then no longer share.
    gc.freeze()
    parent = os.getpid()
    if _fork():
        listener.close()
        return shlex.join([sys.executable, *_ARGUMENTS, str(Path(__file__).with_name("fork_client.py")), name])
    try:
        _serve(listener, parent, threads)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def _fork() -> int:
    """Fork this process, which has threads of libraries.

    A forked process has the calling thread alone, and a lock that another thread held stays locked for ever. These are
    the other threads of the run process here:

    - OpenBLAS, of numpy and of scipy: its threads wait for work. It ends them before a fork and starts them at the next
      product of matrices.
    - jemalloc of pyarrow, `jemalloc_bg_thd`: it takes its locks before a fork and releases them in both processes. In
      the forked process it has no such thread, and frees memory when it is called.
    - Python's own of `exit_with_parent`: it sleeps. The thread that forks has the lock of the interpreter, so that no
      other one is in the middle of Python code.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer versions of Python warn of all threads
        return os.fork()


def _serve(listener: socket.socket, parent: int, threads: int) -> NoReturn:
    """Fork a process for each request, until the run process ends."""
    _end_with(parent)
    _close_files(keep=listener.fileno())
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the workers
    while True:
        connection, _ = listener.accept()
        with connection:
            if is_own(connection):
                _answer(listener, connection, threads)


def _end_with(parent: int) -> None:
    """Have the kernel end this process when its parent ends. A thread that watches would be one more at each fork."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")
    if os.getppid() != parent:  # it ended before that call
        os._exit(1)


def _close_files(keep: int) -> None:
    """Close what the run process has open: for example, its pipes to its own parent must close when it ends."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for number in map(int, os.listdir("/proc/self/fd")):
        if number >= _STANDARD_FILES and number != keep:
            with contextlib.suppress(OSError):  # one was open to list the others
                os.close(number)


def _answer(listener: socket.socket, connection: socket.socket, threads: int) -> None:
    """Fork a process that reads the request, so that one that never comes delays no other."""
    try:
        child = _fork()
    except OSError:  # too many processes, or no memory: the connection closes, and the client runs Python
        traceback.print_exc()
        return
    if child == 0:
        listener.close()
        _run_worker(connection, threads)


def _run_worker(connection: socket.socket, threads: int) -> NoReturn:
    """Read a request, run its script as Python would, and end this process.

    Nobody reads its exit code, and functions of `atexit` do not run: some are of the run process.
    """
    try:
        command = _reset_process(connection, threads)
        connection.send(STARTED)
        sys.argv = command
        runpy.run_path(command[0], run_name="__main__")
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _reset_process(connection: socket.socket, threads: int) -> list[str]:
    """Read a request, and undo what belongs to the run process: its signals, files, environment, log and threads.

    Returns:
        The script of the request, and its arguments.

    Raises:
        OSError: the request did not come in time.
        ValueError: the client ended while it sent the request.
    """
    import torch
    from threadpoolctl import threadpool_limits

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection.settimeout(_REQUEST_TIMEOUT)
    size, files, *_ = socket.recv_fds(connection, SIZE_BYTES, _STANDARD_FILES)
    with connection.makefile("rb") as stream:
        request = json.loads(stream.read(int.from_bytes(size, "big")))
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    environment = request["environment"]
    # Variables with equal values are not set again. Ray looks for the first variable of the process in its memory, and
    # writes the name of the process in front of it.
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
    command: list[str] = request["command"]
    return command
