"""`ColDFusion` out of our wheel, in somebody else's Flower projects, in an environment without the extra `models`."""

import difflib
import json
import shutil
from pathlib import Path

import pytest
from projects.environment import FOREIGN, call

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]  # the first test waits for the environment
NEEDLESS = ("torch", "transformers", "safetensors")
ABSENT = ("transformers", "datasets", "safetensors", "pandas", "accelerate", "hypothesis")


@pytest.fixture
def simulate(fresh, foreign, tmp_path):
    """Runs a foreign project in Flower's simulation and returns what its server reports."""

    def run(name, nodes, *more):
        project = shutil.copytree(FOREIGN / name, tmp_path / name)
        out = tmp_path / f"{name}.json"
        words = (fresh / "python", FOREIGN / "simulate.py", nodes, json.dumps({"out": str(out)}), *more)
        output = call(*words, cwd=project, env={**foreign, "PYTHONPATH": str(project)}, timeout=180)
        assert out.is_file(), output[-6000:]
        return json.loads(out.read_text())

    return run


def run_flower(foreign, project, nodes, config):
    """`flwr run`, which says that all went well whatever happened; `flwr ls` knows."""
    nodes = f"num-supernodes={nodes} client-resources-num-cpus=1"
    words = ("flwr", "run", project, "--stream", "--federation-config", nodes, "--run-config", config)
    output = call(*words, env=foreign)
    assert "finished:completed" in call("flwr", "ls", "--format", "json", env=foreign), output[-6000:]


def first_and_last(scores):
    rounds = sorted(scores, key=int)
    return scores[rounds[0]], scores[rounds[-1]]


def test_the_strategy_loads_without_torch_and_the_other_extras(fresh, tmp_path):
    code = f"""
import importlib.util, json, sys
import coldfusion_fl.strategies
from coldfusion_fl.strategies import ColDFusion
print(json.dumps({{
    "file": coldfusion_fl.strategies.__file__,
    "loaded": sorted(set({NEEDLESS}) & sys.modules.keys()),
    "there": [name for name in {ABSENT} if importlib.util.find_spec(name)],
}}))
"""
    reported = json.loads(call(fresh / "python", "-c", code, cwd=tmp_path).splitlines()[-1])
    assert Path(reported["file"]).is_relative_to(fresh.parent)
    assert reported["loaded"] == []
    assert reported["there"] == []


def check_digits(report):
    """The body became better. The head in the result is the initial one, which no client got."""
    assert {name.partition(".")[0] for name in report["names"]} == {"features", "head"}
    assert report["dtypes"] == ["float32", "int64"]
    assert len(report["batches"]) == 2 and min(report["batches"].values()) > 0  # counts of the batch norms
    before, after = first_and_last(report["accuracy"])
    assert after > before + 0.12
    before, after = first_and_last(report["nodes-accuracy"])
    assert after > before + 0.2
    assert [metrics["coldfusion.contributions"] for metrics in report["train"].values()] == [3] * 5
    assert [metrics["coldfusion.rejected"] for metrics in report["train"].values()] == [0] * 5


def test_a_torch_project_shares_its_body_and_its_heads_are_dropped(simulate):
    check_digits(simulate("digits_cnn", 4))


def test_a_torch_project_by_flwr_run(foreign, tmp_path):
    project = shutil.copytree(FOREIGN / "digits_cnn", tmp_path / "digits_cnn")
    out = tmp_path / "digits_cnn.json"
    run_flower(foreign, project, 4, f"out='{out}'")
    check_digits(json.loads(out.read_text()))


def test_a_numpy_project_takes_another_fusion_step_and_screening(simulate):
    report = simulate("plain_numpy", 6)
    assert report["shapes"] == {"weights": [8], "bias": []}
    assert report["dtypes"] == ["float64"]
    before, after = first_and_last(report["r2"])
    assert before < 0
    assert after > 0.95
    assert report["train"]["1"]["coldfusion.rejected"] == 1  # the node that is wired the wrong way round
    assert report["train"]["1"]["coldfusion.contributions"] == 5


@pytest.mark.parametrize(("server", "strategy"), [("server_app", "ColDFusion"), ("server_app_fedavg", "FedAvg")])
def test_a_scikit_learn_project_runs_with_either_strategy(simulate, server, strategy):
    report = simulate("logistic", 4, "--server", f"logistic.{server}:app")
    assert report["strategy"] == strategy
    assert report["names"] == ["0", "1"]
    assert report["dtypes"] == ["float64"]
    before, after = first_and_last(report["accuracy"])
    assert before < 0.2
    assert after > 0.8
    assert report["nodes-accuracy"]["3"] > 0.8


def test_from_fedavg_to_coldfusion_are_three_lines_at_most():
    package = FOREIGN / "logistic" / "logistic"
    fedavg, ours = ((package / f"{name}.py").read_text().splitlines() for name in ("server_app_fedavg", "server_app"))
    changes = [line for line in difflib.ndiff(fedavg, ours) if line[:2] in ("- ", "+ ")]
    assert 0 < sum(line.startswith("- ") for line in changes) <= 3
    assert sum(line.startswith("+ ") for line in changes) <= 3
