"""Whose a reply is, how long replies are waited for, and who is asked again."""

import time

import numpy as np
import pytest
from fake_grid import SHAPE, FakeGrid, contribution, node
from flwr.app import ConfigRecord, Message, RecordDict
from strategy_runs import zero_arrays

from coldfusion_fl.strategies import ColDFusion
from coldfusion_fl.strategies.nodes import membership
from coldfusion_fl.strategies.nodes.membership import NodeRegistry
from coldfusion_fl.strategies.nodes.messaging import exchange_messages


def test_a_reply_that_names_another_nodes_message_is_dropped(ledger, caplog):
    """What is signed is the request: the reply in it may say that it answers any message, of any node."""

    def victim(message):
        return contribution(message.content["arrays"]["w"].numpy() + np.float32(3))

    def forger(message):
        trainings = [m for m in grid.sent if m.metadata.message_type == "train"]
        (victims_message,) = [m for m in trainings if m.metadata.dst_node_id == 101]
        return Message(contribution(np.full(SHAPE, 100, np.float32)), reply_to=victims_message)

    nodes = [node("a", 1), node("b", train=victim), node("mallory", train=forger)]
    grid = FakeGrid(dict(enumerate(nodes, start=100)))
    strategy = ColDFusion(contributors_per_round=3, min_available_nodes=3, evaluate_every=-1, ledger=ledger)
    result = strategy.start(grid, zero_arrays(), num_rounds=1, timeout=0.5)
    assert result.arrays["w"].numpy()[0, 0] == 2
    assert [(one.name, one.counts_toward_exclusion) for one in ledger.record(1).rejected] == [("mallory", False)]
    assert "it names a different message" in caplog.text


class SlowFetchingGrid(FakeGrid):
    """Node 101's reply is there at once, but takes longer to fetch than the timeout; node 100's comes meanwhile."""

    def __init__(self, nodes):
        super().__init__(nodes)
        self._began = time.monotonic()

    def has_arrived(self, message):
        return message.metadata.dst_node_id == 101 or time.monotonic() - self._began >= 0.1

    def pull_messages(self, message_ids):
        if any(self._waiting[one].metadata.dst_node_id == 101 for one in message_ids if one in self._waiting):
            time.sleep(0.5)
        return super().pull_messages(message_ids)


def train_messages(count):
    return [
        Message(contribution(np.zeros(SHAPE)), dst_node_id=n, message_type="train") for n in range(100, 100 + count)
    ]


def test_a_reply_that_takes_long_to_fetch_does_not_make_others_late():
    grid = SlowFetchingGrid({100: node("a"), 101: node("slow")})
    found = {reply.metadata.src_node_id for reply in exchange_messages(grid, train_messages(2), timeout=0.2)}
    assert found == {100, 101}


def test_a_missing_reply_is_given_up_at_the_timeout():
    grid = FakeGrid({100: node("a"), 101: node("mute", train=lambda message: None)})
    began = time.monotonic()
    assert len(list(exchange_messages(grid, train_messages(2), timeout=0.3))) == 1
    assert 0.3 <= time.monotonic() - began < 2


@pytest.mark.usefixtures("as_in_a_deployment")
def test_a_node_that_was_left_out_is_queried_again_and_reported_once(monkeypatch):
    monkeypatch.setattr(membership, "_NEW_NODE_WAIT", 0.2)
    monkeypatch.setattr(membership, "_RETRY_INTERVAL", 0.0)
    problems, asked, reported = ["it is ill", "it is ill", ""], [], []

    def changes(message):
        asked.append(message)
        problem = problems.pop(0) if problems else ""
        return RecordDict({"config": ConfigRecord({"name": "c", **({"problem": problem} if problem else {})})})

    grid = FakeGrid({100: node("a"), 101: node("b"), 102: changes})
    calls = NodeRegistry("config", on_excluded=lambda name, reason: reported.append((name, reason)))
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
