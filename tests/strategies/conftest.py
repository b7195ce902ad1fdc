"""What the tests of the strategy share."""

import pytest
from fake_grid import FakeGrid, set_task_identity
from flwr.supercore.task_identity import TaskIdentity

from coldfusion_fl.run.ledger import Ledger


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
