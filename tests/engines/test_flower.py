"""The app the Flower way: `flwr run .` in simulation, and a SuperLink with two SuperNodes on loopback."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from flower_home import new_flower_home

from coldfusion_fl.engines.deployment.member.join import free_port
from coldfusion_fl.runs.ledger import Ledger

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]
ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent


@pytest.fixture
def flower_home(tmp_path):
    """An environment with a Flower home of its own; whatever was started with it is ended."""
    with new_flower_home(tmp_path / "flower-home") as variables:
        yield {**os.environ, **variables, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture
def app(tmp_path):
    """The app as it lies in the repository, without what Git does not track."""
    folder = tmp_path / "app"
    for name in ("coldfusion_fl", "strategies", "clients", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def run_config(toy_data, tiny_base, out, **more):
    settings = {
        "base": f"'{tiny_base}'",
        "out": f"'{out}'",
        "rounds": 1,
        "contributors-per-round": 2,
        "tasks.catalogue": f"'{toy_data / 'toy.toml'}'",
        "tasks.seen": "'a,b'",
        "tasks.unseen": "''",
        "finetune.examples": 32,
        "evaluate.every": -1,
        "round-timeout": 120,
        **more,
    }
    return " ".join(f"{key}={value}" for key, value in settings.items())


def flwr(environment, *words, timeout=300):
    done = subprocess.run(
        ["flwr", *words], env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    return done.stdout + done.stderr


def test_flwr_run_is_the_same_app(flower_home, app, toy_data, tiny_base, tmp_path):
    config = run_config(toy_data, tiny_base, tmp_path / "out")
    nodes = "num-supernodes=2 client-resources-num-cpus=1"
    output = flwr(flower_home, "run", str(app), "--stream", "--federation-config", nodes, "--run-config", config)
    assert "finished:completed" in flwr(flower_home, "ls", "--format", "json"), output
    ledger = Ledger(tmp_path / "out")
    assert ledger.state.state == "finished"
    assert ledger.record(1).contributions.keys() == {"a", "b"}
    assert (ledger.folder / "model" / "model.safetensors").is_file()


def test_a_federation_of_two_nodes_that_know_their_own_tasks(flower_home, app, toy_data, tiny_base, tmp_path):
    port = free_port()
    address = f"127.0.0.1:{port}"
    (Path(flower_home["FLWR_HOME"]) / "config.toml").write_text(
        f'[superlink]\ndefault = "loopback"\n[superlink.loopback]\naddress = "{address}"\ninsecure = true\n'
    )
    logs = tmp_path / "nodes.log"
    with logs.open("wb") as log:
        start = {"env": flower_home, "stdout": log, "stderr": subprocess.STDOUT}
        subprocess.Popen(["flower-superlink", "--insecure", "--host", "127.0.0.1", "--port", str(port)], **start)
        time.sleep(5)
        for task in ("a", "b"):
            mine = f"task='{task}' name='org-{task}' base='{tiny_base}' catalogue='{toy_data / 'toy.toml'}'"
            words = ["flower-supernode", "--insecure", "--superlink", address, "--port", str(free_port())]
            subprocess.Popen([*words, "--node-config", mine], **start)
        # What the server says of data is not where the nodes look: there is no such catalogue.
        config = run_config(toy_data, tiny_base, tmp_path / "out", **{"tasks.catalogue": "'/server/says.toml'"})
        output = flwr(flower_home, "run", str(app), "loopback", "--stream", "--run-config", config)
    runs = json.loads(flwr(flower_home, "ls", "loopback", "--format", "json"))
    assert "finished:completed" in json.dumps(runs), output + logs.read_text()[-3000:]
    ledger = Ledger(tmp_path / "out")
    assert ledger.record(1).contributions.keys() == {"org-a", "org-b"}
    first, last = ledger.load_base(0), ledger.load_base(1)
    assert any(first[name].tobytes() != last[name].tobytes() for name in first)
