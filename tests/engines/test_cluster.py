"""A simulation on a Ray cluster of two nodes, both on this machine."""

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

from coldfusion_fl.engines.deployment.member.join import free_port
from coldfusion_fl.run.ledger import Ledger

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
        while not any("raylet" in one.name() for one in psutil.Process(nodes[-1].pid).children(recursive=True)):
            assert time.monotonic() < deadline, Path(log.name).read_text()
            time.sleep(0.5)
    yield f"127.0.0.1:{port}", nodes
    for node in reversed(nodes):
        end(node)
    log.close()


def workers(node):
    """Simulated contributors that are children of a node."""
    return [one for one in psutil.Process(node.pid).children(recursive=True) if "ClientAppActor" in one.name()]


def bases(folder):
    ledger = Ledger(folder)
    assert ledger.state.state == "finished"
    return [{name: array.tobytes() for name, array in ledger.load_base(number).items()} for number in ledger.rounds()]


def test_both_nodes_train_and_the_bases_equal_those_of_one_machine(cluster, toy_run, tmp_path):
    address, nodes = cluster
    changes = {"contributors-per-round": "4", "finetune.epochs": "20", "finetune.patience": "1e6"}
    config = toy_run(**changes, **{"simulation.address": f'"{address}"'})
    process = start_run(config, tmp_path / "cluster", OMP_NUM_THREADS="1")
    worked = set()
    deadline = time.monotonic() + 300
    while process.poll() is None:
        worked |= {number for number, node in enumerate(nodes) if workers(node)}
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert process.returncode == 0, process.stdout.read()
    assert worked == {0, 1}
    assert all(node.poll() is None for node in nodes)  # the cluster is not ours to end
    alone = start_run(toy_run(**changes), tmp_path / "alone", OMP_NUM_THREADS="1")
    output, _ = alone.communicate(timeout=300)
    assert alone.returncode == 0, output
    assert bases(tmp_path / "cluster") == bases(tmp_path / "alone")


def test_a_run_without_an_address_connects_to_no_cluster(place, toy_run, tmp_path, monkeypatch):
    noted = place / "ray" / "ray_current_cluster"
    noted.parent.mkdir()
    noted.write_text(f"127.0.0.1:{free_port()}")  # of one that is gone
    monkeypatch.setenv("RAY_TMPDIR", str(place))
    process = start_run(toy_run(rounds="1"), tmp_path / "run", OMP_NUM_THREADS="1")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 0, output


def test_a_cluster_that_does_not_answer_is_named(toy_run, tmp_path):
    address = f"127.0.0.1:{free_port()}"
    process = start_run(toy_run(**{"simulation.address": f'"{address}"'}), tmp_path / "run", OMP_NUM_THREADS="1")
    output, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    assert f"cannot connect to the Ray cluster at {address}" in output
