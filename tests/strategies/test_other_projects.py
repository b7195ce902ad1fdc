"""`ColDFusion` out of our wheel, in somebody else's Flower projects, in an environment without the extra `models`."""

import difflib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from flower_home import new_flower_home

pytestmark = [pytest.mark.long, pytest.mark.timeout(1200)]  # the first test waits for the environment
ROOT = Path(__file__).parents[2]
FOREIGN = Path(__file__).parent / "foreign"
OURS = ("build", "dist", "runs", "shared", "tests", "docs", "*.egg-info", "__pycache__", ".*")
NEEDLESS = ("torch", "transformers", "safetensors")
ABSENT = ("transformers", "datasets", "safetensors", "pandas", "accelerate", "hypothesis")


def own_environment():
    """Without another environment's packages, which Flower's simulation in an earlier test puts on the path."""
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def call(*words, timeout=300, env=None, **more):
    """The output of a command; if it fails, its last lines are the error."""
    done = subprocess.run(
        [str(word) for word in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout,
        check=False,
        env=env or own_environment(),
        **more,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


@pytest.fixture(scope="module")
def scratch():
    """A folder that is gone afterwards: a fresh environment is large."""
    with tempfile.TemporaryDirectory(prefix="plugged-in-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def wheel(scratch):
    """Our wheel, built from a copy, so that the checkout stays as it is."""
    shutil.copytree(ROOT, scratch / "ours", ignore=shutil.ignore_patterns(*OURS))
    call(
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        ".",
        "-w",
        scratch / "wheels",
        cwd=scratch / "ours",
    )
    return next((scratch / "wheels").glob("coldfusion_fl-*.whl"))


@pytest.fixture(scope="module")
def fresh(scratch, wheel):
    """The bin folder of a fresh environment: our wheel with Flower's simulation, and what the foreign projects need."""
    call(sys.executable, "-m", "venv", scratch / "venv")
    folder = scratch / "venv" / "bin"
    install = (folder / "python", "-m", "pip", "install", "--quiet")
    constrained = (*install, "--constraint", ROOT / "constraints.txt")
    call(*constrained, "torch==2.13.0", timeout=900)
    call(*constrained, f"{wheel}[simulation]", "scikit-learn", timeout=900)
    return folder


@pytest.fixture
def foreign(fresh, tmp_path):
    """The foreign project's environment variables; whatever was started with them is ended."""
    with new_flower_home(tmp_path / "flower-home") as variables:
        yield {
            **own_environment(),
            **variables,
            "PATH": f"{fresh}{os.pathsep}{os.environ['PATH']}",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
        }


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
    """The body became better, and no head was fused."""
    assert report["names"]
    assert all(name.startswith("features.") for name in report["names"])
    assert report["dtypes"] == ["float32", "int64"]
    assert len(report["batches"]) == 2 and min(report["batches"].values()) > 0  # counts of the batch norms
    before, after = first_and_last(report["accuracy"])
    assert after > before + 0.12
    before, after = first_and_last(report["nodes-accuracy"])
    assert after > before + 0.2
    assert [metrics["contributions"] for metrics in report["train"].values()] == [3] * 5
    assert [metrics["rejected"] for metrics in report["train"].values()] == [0] * 5


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
    assert report["train"]["1"]["rejected"] == 1  # the node that is wired the wrong way round
    assert report["train"]["1"]["contributions"] == 5


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
