"""Copies of a process that run the commands of others."""

import os
import shlex
import socket
import subprocess
import sys
import time

import psutil
import pytest

from coldfusion_fl.config.settings import SimulationSettings
from coldfusion_fl.engines import worker_copies
from coldfusion_fl.engines.worker_copies import can_copy

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are copied on Linux alone")
# A run process that has loaded a module which its copies must have.
PARENT = """
import sys
import decimal, torch
sys.modules["loaded_before"] = decimal
from coldfusion_fl.engines.worker_copies import start_copier
print(start_copier(threads=1), flush=True)
sys.stdin.read()
"""
# What a copy tells of itself.
SCRIPT = """
import os, sys, torch
print("loaded_before" in sys.modules, os.environ.get("MINE"), sys.argv[1:], torch.get_num_threads(), os.getppid())
print("an error line", file=sys.stderr)
"""


@pytest.fixture
def parent():
    """The process that is copied, and the command that asks for a copy."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    yield process, shlex.split(process.stdout.readline())
    process.kill()
    process.communicate()


@pytest.fixture
def ask(parent, tmp_path):
    """Has a copy run a script."""

    def ask(text, *arguments, **environment):
        script = tmp_path / "script.py"
        script.write_text(text)
        inherited = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
        command = [*parent[1], str(script), *arguments]
        return subprocess.run(
            command, env={**inherited, **environment}, capture_output=True, text=True, check=False, timeout=60
        )

    return ask


def copier(process):
    (child,) = psutil.Process(process.pid).children()
    return child


def test_a_copy_has_the_modules_of_the_process_and_all_else_from_the_command(parent, ask):
    done = ask(SCRIPT, "--some", "a b", MINE="yes")
    assert done.stdout == f"True yes ['--some', 'a b'] 1 {copier(parent[0]).pid}\n"
    assert "an error line" in done.stderr


def test_the_number_of_threads_that_the_user_sets_stays(ask):
    done = ask(
        "import os, torch\nprint(os.environ['OMP_NUM_THREADS'], torch.get_num_threads() > 1)", OMP_NUM_THREADS="3"
    )
    assert done.stdout == f"3 {(os.cpu_count() or 1) > 1}\n"  # what the copied process had loaded


def test_the_client_lives_as_long_as_the_worker_also_one_that_crashes(ask):
    began = time.monotonic()
    done = ask("import time, os\ntime.sleep(0.5)\nos.kill(os.getpid(), 9)")
    assert time.monotonic() - began > 0.5
    assert (done.stdout, done.stderr) == ("", "")


def test_an_error_of_a_worker_is_in_its_own_output_and_the_next_copy_works(ask):
    assert "ZeroDivisionError" in ask("1 / 0").stderr
    assert ask("print('fine')").stdout == "fine\n"


def test_ray_can_name_a_copy(ask):
    """By these names, the checks of the memory tell workers from other processes."""
    text = "import os, psutil, ray\nray._raylet.setproctitle('ray::ClientAppActor.run')\nprint(psutil.Process().name())"
    assert ask(text, PYTHONPATH="/nowhere").stdout == "ray::ClientAppActor.run\n"


def test_a_worker_can_wait_for_processes_of_its_own(ask):
    assert ask("import subprocess\nprint(subprocess.run(['false']).returncode)").stdout == "1\n"


def test_without_a_copier_the_client_becomes_the_worker(parent, ask):
    copier(parent[0]).kill()
    done = ask(SCRIPT, MINE="yes")
    assert done.stdout.startswith("False yes [] ")


def test_the_copier_ends_with_its_parent(parent):
    process, _ = parent
    child = copier(process)
    process.kill()
    process.wait()
    psutil.wait_procs([child], timeout=20)
    assert not child.is_running()


def test_a_process_of_another_user_gets_no_copy(monkeypatch):
    one, _ = socket.socketpair()
    assert worker_copies._is_own(one)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert not worker_copies._is_own(one)


@pytest.mark.parametrize(
    ("share", "expected"), [({}, True), ({"gpus": 0.5}, False), ({"address": "127.0.0.1:6379"}, False)]
)
def test_workers_with_gpus_and_those_of_a_cluster_are_no_copies(share, expected):
    assert can_copy(SimulationSettings(**share)) is expected


def test_what_is_loaded_before_the_copies_has_all_libraries_but_ray():
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
