"""What the tests of the strategy share."""

import os
import tempfile
from pathlib import Path

import pytest
from fake_grid import FakeGrid, set_task_identity
from flower_home import new_flower_home
from flwr.supercore.task_identity import TaskIdentity
from projects.environment import build_wheel, make_environment, own_environment

from coldfusion_fl.runs.ledger import Ledger


@pytest.fixture(autouse=True)
def server_identity(monkeypatch):
    """This process is a ServerApp's until the test ends."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, None)
    set_task_identity()


@pytest.fixture
def ledger(tmp_path):
    """A new run folder."""
    return Ledger.create(tmp_path / "run", {})


@pytest.fixture
def as_in_a_deployment(monkeypatch):
    """The grid is not a simulation's, so nodes may come and go; it is polled often."""
    monkeypatch.setattr(FakeGrid, "is_simulation", False)
    monkeypatch.setattr("coldfusion_fl.strategies.nodes.messaging._POLL_SECONDS", 0.01)


@pytest.fixture(scope="session")
def fresh():
    """The bin folder of a fresh environment with our wheel. It is gone afterwards, because it is large."""
    with tempfile.TemporaryDirectory(prefix="plugged-in-", ignore_cleanup_errors=True) as folder:
        yield make_environment(Path(folder), build_wheel(Path(folder)))


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
