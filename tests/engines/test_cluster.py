"""A simulation on a Ray cluster of two nodes, both on this machine."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from commands import start_run
from run_folders import same_rounds

from coldfusion_fl.engines.deployment.member.join import free_port
from coldfusion_fl.runs.ledger import Ledger

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]
RAY = str(Path(sys.executable).with_name("ray"))


def end(process):
    descendants = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    process.wait(60)
    _, left = psutil.wait_procs(descendants, timeout=20)
    for one in left:
        one.kill()


@pytest.fixture
def place():
    """A folder for Ray's sockets, which need short paths, and for its note where the newest cluster is."""
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def cluster(place, tmp_path_factory):
    """Two nodes of one core each: the head's address, and the processes of both."""
    port = free_port()
    common = ["--num-cpus=1", "--disable-usage-stats", "--min-worker-port=0", "--max-worker-port=0", "--block"]
    ways = (
        ["--head", f"--port={port}", "--node-ip-address=127.0.0.1", "--include-dashboard=false"],
        [f"--address=127.0.0.1:{port}"],
    )
    nodes = []
    log = (tmp_path_factory.mktemp("ray") / "ray.log").open("wb")
    for way in ways:
        environment = {**os.environ, "RAY_TMPDIR": str(place)}
        nodes.append(subprocess.Popen([RAY, "start", *way, *common], stdout=log, stderr=log, env=environment))
        deadline = time.monotonic() + 60
        while not descendants(nodes[-1], "raylet"):
            assert time.monotonic() < deadline, Path(log.name).read_text()
            time.sleep(0.5)
    yield f"127.0.0.1:{port}", nodes
    for node in reversed(nodes):
        end(node)
    log.close()


def descendants(node, name):
    """The processes that a node has started, directly or not, and that have a name; some may end meanwhile."""
    found = []
    for one in psutil.Process(node.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found += [one] if name in one.name() else []
    return found


def workers(node):
    """Simulated contributors that are children of a node."""
    return descendants(node, "ClientAppActor")


def test_both_nodes_train_and_the_bases_equal_those_of_one_machine(cluster, finished, toy_run, tmp_path):
    alone, _ = finished
    address, nodes = cluster
    process = start_run(toy_run(**{"simulation.address": f'"{address}"'}), tmp_path / "run", OMP_NUM_THREADS="1")
    worked = set()
    deadline = time.monotonic() + 300
    while process.poll() is None:
        worked |= {number for number, node in enumerate(nodes) if workers(node)}
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert process.returncode == 0, process.stdout.read()
    assert worked == {0, 1}
    assert all(node.poll() is None for node in nodes)  # the cluster is not ours to end
    assert same_rounds(Ledger(tmp_path / "run"), alone)


def test_without_an_address_ray_starts_here_and_connects_to_no_cluster(place):
    noted = place / "ray" / "ray_current_cluster"
    noted.parent.mkdir()
    noted.write_text(f"127.0.0.1:{free_port()}")  # of one that is gone
    code = "from coldfusion_fl.engines.local_ray import LocalRay; LocalRay(early_workers=False).address()"
    environment = {**os.environ, "RAY_TMPDIR": str(place)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_a_cluster_that_does_not_answer_is_named(toy_run, tmp_path):
    address = f"127.0.0.1:{free_port()}"
    process = start_run(toy_run(**{"simulation.address": f'"{address}"'}), tmp_path / "run", OMP_NUM_THREADS="1")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    assert f"cannot connect to the Ray cluster at {address}" in output
