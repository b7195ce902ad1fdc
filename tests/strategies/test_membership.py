"""Whose a reply is, how long replies are waited for, and who is asked again."""

import time

import numpy as np
import pytest
from fake_grid import FakeGrid, contribution, node, set_task_identity
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from coldfusion_fl.run.ledger import Ledger
from coldfusion_fl.strategies import ColDFusion
from coldfusion_fl.strategies.nodes import membership, messaging
from coldfusion_fl.strategies.nodes.membership import NodeRegistry
from coldfusion_fl.strategies.nodes.messaging import exchange_messages

SHAPE = (2, 3)


@pytest.fixture(autouse=True)
def server_identity(monkeypatch):
    from flwr.supercore.task_identity import TaskIdentity

    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, None, raising=False)
    set_task_identity()


def test_a_reply_in_anothers_name_counts_for_nobody(tmp_path, caplog):
    """What is signed is the request: the reply in it may say that it answers any message, of any node."""

    def victim(message):
        return contribution(message.content["arrays"]["w"].numpy() + np.float32(3))

    def forger(message):
        reply = Message(contribution(np.full(SHAPE, 100, np.float32)), reply_to=message)
        trainings = [m for m in grid.sent if m.metadata.message_type == "train"]
        (victims_message,) = [m for m in trainings if m.metadata.dst_node_id == 101]
        reply.metadata.__dict__["_reply_to_message_id"] = victims_message.metadata.message_id
        return reply

    nodes = [node("a", 1), node("b", train=victim), node("mallory", train=forger)]
    grid = FakeGrid(dict(enumerate(nodes, start=100)))
    ledger = Ledger.create(tmp_path / "run", {})
    strategy = ColDFusion(contributors_per_round=3, min_available_nodes=3, evaluate_every=-1, ledger=ledger)
    arrays = ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32))})
    result = strategy.start(grid, arrays, num_rounds=1, timeout=0.5)
    assert result.arrays["w"].numpy()[0, 0] == 2
    assert [(one.name, one.counts) for one in ledger.record(1).rejected] == [("mallory", False)]
    assert "claims to answer another one" in caplog.text


class Mail(FakeGrid):
    """Node 1's reply is there at once, but takes longer to fetch than the round has; node 0's comes meanwhile."""

    def __init__(self, nodes):
        super().__init__(nodes)
        self._order.random = lambda: 1.0
        self._began = time.monotonic()

    def pull_messages(self, message_ids):
        if message_ids == ["m1"]:
            time.sleep(0.5)
        elif time.monotonic() - self._began < 0.1:
            return []
        return super().pull_messages(message_ids)


def questions(count):
    return [Message(contribution(np.zeros(SHAPE)), dst_node_id=n, message_type="train") for n in range(count)]


def test_one_reply_that_takes_long_to_fetch_makes_no_other_late():
    grid = Mail({0: node("a"), 1: node("slow")})
    found = {reply.metadata.src_node_id for reply in exchange_messages(grid, questions(2), timeout=0.2)}
    assert found == {0, 1}


def test_who_does_not_answer_is_given_up_when_the_time_is_over():
    grid = FakeGrid({0: node("a"), 1: node("mute", train=lambda message: None)})
    began = time.monotonic()
    assert len(list(exchange_messages(grid, questions(2), timeout=0.3))) == 1
    assert 0.3 <= time.monotonic() - began < 2


class Deployed(FakeGrid):
    pull_interval = property()  # which a deployment's grid has not


def test_who_was_left_out_is_asked_again_and_told_of_once(monkeypatch):
    monkeypatch.setattr(messaging, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(membership, "_NEW_NODE_WAIT", 0.2)
    monkeypatch.setattr(membership, "_RETRY_INTERVAL", 0.0)
    problems, asked, told = ["it is ill", "it is ill", ""], [], []

    def changes(message):
        asked.append(message)
        problem = problems.pop(0) if problems else ""
        return RecordDict({"config": ConfigRecord({"name": "c", **({"problem": problem} if problem else {})})})

    grid = Deployed({1: node("a"), 2: node("b"), 3: changes})
    calls = NodeRegistry("config", on_excluded=lambda name, reason: told.append((name, reason)))
    deadline = time.monotonic() + 20
    while "c" not in (there := calls.connected_nodes(grid)):
        assert time.monotonic() < deadline
        assert there.keys() <= {"a", "b"}
        time.sleep(0.02)
    assert told == [("c", "it is ill")]
    assert len(asked) == 3
    for _ in range(20):  # who takes part is not asked any more
        calls.connected_nodes(grid)
    assert len(asked) == 3
