"""A contributor's node, and the encoder that it is sent."""

import pytest
from client_messages import context
from flwr.supercore.task_identity import TaskIdentity

from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder


@pytest.fixture(autouse=True)
def server_identity(monkeypatch):
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture(scope="module")
def encoder(tiny_base):
    return load_encoder(open_base(str(tiny_base)))


@pytest.fixture
def node(toy_data, tiny_base):
    return context({"task": "b", "catalogue": str(toy_data / "toy.toml"), "base": str(tiny_base)})
