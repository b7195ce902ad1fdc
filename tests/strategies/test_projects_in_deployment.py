"""Two kinds of Flower projects in a federation of real processes: a SuperLink and SuperNodes on loopback."""

import json
import subprocess
import time
from pathlib import Path

import pytest
from projects.environment import call
from projects.runs import copy_project, largest_difference, read_run

from coldfusion_fl.engines.deployment.member.join import free_port

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]  # the first test waits for the environment
NODES = 3


@pytest.fixture
def federation(fresh, foreign, tmp_path):
    """The environment variables of a federation that runs; its connection in Flower's configuration is `loopback`."""
    address = f"127.0.0.1:{free_port()}"
    (Path(foreign["FLWR_HOME"]) / "config.toml").write_text(
        f'[superlink]\ndefault = "loopback"\n[superlink.loopback]\naddress = "{address}"\ninsecure = true\n'
    )
    with (tmp_path / "federation.log").open("wb") as log:
        start = {"env": foreign, "stdout": log, "stderr": subprocess.STDOUT}
        host, port = address.split(":")
        subprocess.Popen([fresh / "flower-superlink", "--insecure", "--host", host, "--port", port], **start)
        time.sleep(5)
        for number in range(NODES):
            words = [fresh / "flower-supernode", "--insecure", "--superlink", address, "--port", str(free_port())]
            subprocess.Popen([*words, "--node-config", f"partition-id={number} num-partitions={NODES}"], **start)
        yield foreign  # whose fixture ends all processes


def run_project(federation, project, strategy):
    """A run of a project in the federation."""
    out = project / f"{strategy}.json"
    config = f"strategy='{strategy}' num-nodes={NODES} num-server-rounds=2 out='{out}'"
    began = time.monotonic()
    words = ("flwr", "run", project, "loopback", "--stream", "--run-config", config)
    output = call(*words, env=federation, timeout=400)
    listed = json.loads(call("flwr", "ls", "loopback", "--format", "json", env=federation))
    assert "failed" not in json.dumps(listed), output[-6000:]
    return read_run(out, output, time.monotonic() - began)


@pytest.mark.parametrize(("name", "accuracy"), [("scikit_scalars", 0.75), ("lora_adapters", 0.7)])
def test_a_project_does_the_same_with_either_strategy(name, accuracy, federation, tmp_path):
    project = copy_project(name, tmp_path)
    fedavg, ours = (run_project(federation, project, strategy) for strategy in ("FedAvg", "ColDFusion"))
    for strategy, run in (("FedAvg", fedavg), ("ColDFusion", ours)):
        print(f"{name} | {strategy} | {run.row()}")
    assert ours.accuracies[-1] >= accuracy
    assert largest_difference(fedavg, ours) < 1e-6
    assert "rejected:" not in ours.output
    assert ours.tracebacks == 0
    if name == "scikit_scalars":
        assert [len(run.report["evaluate"]) for run in (fedavg, ours)] == [2, 3]
    else:
        assert "They get no more of them" in ours.output
