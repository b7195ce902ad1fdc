"""Whose a reply is, and how long replies are waited for."""

import time

import numpy as np
from fake_grid import SHAPE, FakeGrid, contribution, node
from flwr.app import Message
from strategy_runs import zero_arrays

from coldfusion_fl.strategies import ColDFusion
from coldfusion_fl.strategies.nodes.messaging import exchange_messages
from coldfusion_fl.strategies.nodes.replies import seconds_left


def test_a_reply_that_names_another_nodes_message_is_rejected_by_the_name_of_its_sender(ledger, caplog):
    """What is signed is the request: the reply in it may say that it answers any message, of any node."""

    def forger(message):
        guess = Message(message.content, dst_node_id=101, message_type="train")
        guess.metadata.__dict__["_message_id"] = "guessed"
        return Message(contribution(np.full(SHAPE, 100, np.float32)), reply_to=guess)

    nodes = [node("a", 1), node("b", 3), node("mallory", train=forger)]
    grid = FakeGrid(dict(enumerate(nodes, start=100)))
    strategy = ColDFusion(
        contributor_names="query", contributors_per_round=3, min_available_nodes=3, evaluate_every=-1, ledger=ledger
    )
    result = strategy.start(grid, zero_arrays(), num_rounds=1, timeout=0.5)
    assert result.arrays["w"].numpy()[0, 0] == 2
    assert [(one.name, one.counts_toward_exclusion) for one in ledger.record(1).rejected] == [("mallory", True)]
    assert "named another message in its reply" in caplog.text
    trainings = [message for message in grid.sent if message.metadata.message_type == "train"]
    assert len({message.metadata.group_id for message in trainings}) == len(trainings)  # part of the ID in a deployment


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


class GridThatWaits(FakeGrid):
    """As that of a deployment: it waits for the arrays of announced replies for as long as it may."""

    def has_arrived(self, message):
        return True

    def pull_messages(self, message_ids):
        announced = [one for one in message_ids if self._waiting[one].metadata.dst_node_id > 100]
        if announced:
            time.sleep(min(seconds_left(), 60))
        return super().pull_messages([one for one in message_ids if one not in announced])


def test_all_members_that_announce_a_reply_and_do_not_send_it_cost_one_time_limit_together():
    grid = GridThatWaits({number: node("x") for number in range(100, 105)})
    began = time.monotonic()
    found = [reply.metadata.src_node_id for reply in exchange_messages(grid, train_messages(5), timeout=2)]
    assert time.monotonic() - began < 2 * 2
    assert found == [100]


def test_a_missing_reply_is_given_up_at_the_timeout():
    grid = FakeGrid({100: node("a"), 101: node("mute", train=lambda message: None)})
    began = time.monotonic()
    assert len(list(exchange_messages(grid, train_messages(2), timeout=0.3))) == 1
    assert 0.3 <= time.monotonic() - began < 2
