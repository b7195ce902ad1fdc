"""A fork server, whose forked processes run the commands of others."""

import os
import shlex
import socket
import subprocess
import sys
import threading
import time

import psutil
import pytest

from coldfusion_fl.config.settings import SimulationSettings
from coldfusion_fl.engines import fork_client
from coldfusion_fl.engines.fork_server import can_fork

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
# A run process that has loaded a module which its forked workers must have.
PARENT = """
import os, resource, sys
import decimal, torch
sys.modules["loaded_before"] = decimal
from coldfusion_fl.engines.fork_server import start_fork_server
{before}
print(start_fork_server({threads}), flush=True)
sys.stdin.read()
"""
# A worker that describes itself.
SCRIPT = """
import os, sys, torch
print("loaded_before" in sys.modules, os.environ.get("MINE"), sys.argv[1:], torch.get_num_threads(), os.getppid())
print("an error line", file=sys.stderr)
"""


def variables(**changes):
    return {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"} | changes


@pytest.fixture
def start():
    """Starts a process with a fork server, and returns it with the command that asks for a worker."""
    started = []

    def start(before="", threads=1, **environment):
        command = [sys.executable, "-P", "-c", PARENT.format(before=before, threads=threads)]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=variables(**environment)
        )
        started.append(process)
        return process, shlex.split(process.stdout.readline())

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def parent(start):
    return start()


@pytest.fixture
def ask(parent, run):
    """Has a forked worker run a script."""
    return lambda text, *arguments, **environment: run(parent[1], text, *arguments, **environment)


@pytest.fixture
def run(tmp_path):
    """Runs a script with the command that asks for a worker."""

    def run(client, text, *arguments, **environment):
        script = tmp_path / "script.py"
        script.write_text(text)
        command = [*client, str(script), *arguments]
        return subprocess.run(
            command, env=variables(**environment), capture_output=True, text=True, check=False, timeout=60
        )

    return run


def fork_server(process):
    (child,) = psutil.Process(process.pid).children()
    return child


def connect(client):
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(f"\0{client[-1]}")
    return connection


def ends(process, timeout=20):
    psutil.wait_procs([process], timeout=timeout)
    return not process.is_running()


def test_a_worker_has_the_modules_of_the_process_and_all_else_from_the_command(parent, ask):
    done = ask(SCRIPT, "--some", "a b", MINE="yes")
    assert done.stdout == f"True yes ['--some', 'a b'] 1 {fork_server(parent[0]).pid}\n"
    assert "an error line" in done.stderr


def test_the_number_of_threads_that_the_user_sets_stays(start, run):
    _, client = start(threads=5, OMP_NUM_THREADS="3")
    text = "import torch\nprint(torch.get_num_threads())"
    expected = run([sys.executable], text, OMP_NUM_THREADS="3").stdout  # PyTorch uses no more threads than cores
    assert run(client, text, OMP_NUM_THREADS="3").stdout == expected


def test_the_client_lives_as_long_as_the_worker_also_one_that_crashes(ask):
    began = time.monotonic()
    done = ask("import time, os\ntime.sleep(0.5)\nos.kill(os.getpid(), 9)")
    assert time.monotonic() - began > 0.5
    assert (done.stdout, done.stderr) == ("", "")


def test_an_error_of_a_worker_is_in_its_own_output_and_the_next_one_works(ask):
    assert "ZeroDivisionError" in ask("1 / 0").stderr
    assert ask("print('fine')").stdout == "fine\n"


def test_ray_can_name_a_worker(ask):
    """By these names, the checks of the memory tell workers from other processes."""
    text = "import os, psutil, ray\nray._raylet.setproctitle('ray::ClientAppActor.run')\nprint(psutil.Process().name())"
    assert ask(text, PYTHONPATH="/nowhere").stdout == "ray::ClientAppActor.run\n"


def test_a_worker_can_wait_for_processes_of_its_own(ask):
    assert ask("import subprocess\nprint(subprocess.run(['false']).returncode)").stdout == "1\n"


def test_what_a_worker_starts_inherits_the_standard_files_alone(ask):
    done = ask("import subprocess\nsubprocess.run(['ls', '/proc/self/fd'], close_fds=False)")
    assert done.stdout.split() == ["0", "1", "2", "3"]  # `ls` itself opens the last one


def test_the_fork_server_closes_the_files_of_its_parent_whatever_the_limit_is(start):
    process, _ = start(
        before="os.dup2(1, 200)\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))"
    )
    deadline = time.monotonic() + 20
    while (left := fork_server(process).num_fds()) != 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == 4  # the standard ones, and the socket


def test_without_a_fork_server_the_client_becomes_the_worker(parent, ask):
    fork_server(parent[0]).kill()
    done = ask(SCRIPT, MINE="yes")
    assert done.stdout.startswith("False yes [] ")


def test_if_no_process_can_be_forked_the_client_becomes_the_worker(start, run):
    _, client = start(
        before="""
real, calls = os.fork, []
def fork():
    calls.append(1)
    if len(calls) == 2:
        raise BlockingIOError("too many processes")
    return real()
os.fork = fork
"""
    )
    assert run(client, SCRIPT, MINE="yes").stdout.startswith("False yes [] ")
    assert run(client, SCRIPT, MINE="yes").stdout.startswith("True yes [] ")


def test_if_the_fork_server_ends_before_it_answers_the_client_becomes_the_worker(run):
    def accept_and_close():
        connection, _ = listener.accept()
        connection.close()

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{os.urandom(8).hex()}")
        listener.listen()
        thread = threading.Thread(target=accept_and_close)
        thread.start()
        name = listener.getsockname()[1:].decode()
        done = run([sys.executable, "-I", "-S", fork_client.__file__, name], "print('new process')")
        thread.join()
    assert done.stdout == "new process\n"


def test_the_fork_server_ends_with_its_parent(parent):
    process, _ = parent
    child = fork_server(process)
    process.kill()
    process.wait()
    assert ends(child)


def test_a_connection_without_a_request_delays_no_other_and_not_the_end(parent, ask):
    process, client = parent
    with connect(client):
        began = time.monotonic()
        assert ask("print('fine')").stdout == "fine\n"
        assert time.monotonic() - began < 10
        child = fork_server(process)
        process.kill()
        process.wait()
        assert ends(child)


def test_the_process_of_a_request_that_never_comes_ends(start):
    process, client = start(before="import coldfusion_fl.engines.fork_server as own\nown._REQUEST_TIMEOUT = 0.2")
    with connect(client) as connection:
        connection.settimeout(20)
        assert connection.recv(1) == b""
    assert fork_server(process).is_running()


def test_a_process_of_another_user_gets_no_worker(monkeypatch):
    one, _ = socket.socketpair()
    assert fork_client.is_own(one)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert not fork_client.is_own(one)


def test_another_user_who_takes_the_name_of_the_fork_server_gets_no_request(monkeypatch):
    name = os.urandom(8).hex()
    executed = []

    class ReplacedError(Exception):
        pass

    def execv(*arguments):
        executed.append(arguments)
        raise ReplacedError

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        listener.listen()
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        monkeypatch.setattr(os, "execv", execv)
        monkeypatch.setattr(sys, "argv", ["fork_client.py", name, "script.py", "--some"])
        with pytest.raises(ReplacedError):
            fork_client.main()
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(20)
            assert accepted.recv(1) == b""  # closed, and nothing was sent
    assert executed == [(sys.executable, [sys.executable, "script.py", "--some"])]


@pytest.mark.parametrize(
    ("share", "expected"), [({}, True), ({"gpus": 0.5}, False), ({"address": "127.0.0.1:6379"}, False)]
)
def test_workers_with_gpus_and_those_of_a_cluster_are_not_forked(share, expected):
    assert can_fork(SimulationSettings(**share)) is expected


def test_what_is_loaded_before_the_fork_has_all_libraries_but_ray():
    code = "import sys, coldfusion_fl.engines.preloaded\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"torch", "transformers", "sklearn.metrics", "coldfusion_fl.training.finetune"} <= loaded
    assert "ray" not in loaded


def test_a_base_loads_no_other_type_of_model(tiny_base):
    code = f"""
import sys, coldfusion_fl.engines.preloaded
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder
load_encoder(open_base({str(tiny_base)!r}))
print(*(name.split('.')[2] for name in sys.modules if '.modeling_' in name and name.startswith('transformers.models.')))
"""
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"auto", "bert"}
