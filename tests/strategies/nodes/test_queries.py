"""Nodes are queried for their names."""

import time

import pytest
from fake_grid import FakeGrid, node
from flwr.app import ConfigRecord, RecordDict

from coldfusion_fl.strategies.nodes import queries
from coldfusion_fl.strategies.nodes.queries import QueriedNodes


@pytest.mark.usefixtures("as_in_a_deployment")
def test_a_node_that_was_left_out_is_queried_again_and_reported_once(monkeypatch):
    monkeypatch.setattr(queries, "_NEW_NODE_WAIT", 0.2)
    monkeypatch.setattr(queries, "_RETRY_INTERVAL", 0.0)
    problems, asked, reported = ["it is ill", "it is ill", ""], [], []

    def changes(message):
        asked.append(message)
        problem = problems.pop(0) if problems else ""
        return RecordDict({"config": ConfigRecord({"name": "c", **({"problem": problem} if problem else {})})})

    grid = FakeGrid({100: node("a"), 101: node("b"), 102: changes})
    calls = QueriedNodes("config", on_excluded=lambda name, reason: reported.append((name, reason)))
    deadline = time.monotonic() + 20
    while "c" not in (there := calls.connected_nodes(grid)):
        assert time.monotonic() < deadline
        assert there.keys() <= {"a", "b"}
        time.sleep(0.02)
    assert reported == [("c", "it is ill")]
    assert len(asked) == 3
    for _ in range(20):  # who takes part is not asked any more
        calls.connected_nodes(grid)
    assert len(asked) == 3
