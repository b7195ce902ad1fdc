"""Contributions that arrive when their round is over."""

import numpy as np
import pytest
from fake_grid import FakeGrid, node
from strategy_runs import zero_arrays

from coldfusion_fl.strategies import ColDFusion


class GridWithASlowNode(FakeGrid):
    """Holds the training replies of one node back until a later round is under way; all others are there at once."""

    def __init__(self, nodes, slow, rounds_late):
        super().__init__(nodes)
        self._slow, self._rounds_late = slow, rounds_late

    def has_arrived(self, message):
        is_slow = message.metadata.dst_node_id == self._slow and message.metadata.message_type == "train"
        return not is_slow or self.is_late_enough(message.content["config"]["coldfusion.round"])

    def is_late_enough(self, server_round):
        return self.newest_round() >= server_round + self._rounds_late

    def newest_round(self):
        return max(m.content["config"]["coldfusion.round"] for m in self.sent if m.metadata.message_type == "train")


def run_with_a_slow_node(ledger, rounds, rounds_late=1, **settings):
    """Nodes a and b move the base by 1, the slow c by 4; c is sampled in each round, because three are needed."""
    grid = GridWithASlowNode({100: node("a"), 101: node("b"), 102: node("c", 4)}, 102, rounds_late)
    settings = {"contributors_per_round": 3, "min_train_nodes": 3, "evaluate_every": -1, **settings}
    strategy = ColDFusion(contributor_names="query", ledger=ledger, **settings)
    result = strategy.start(grid, zero_arrays(), num_rounds=rounds, timeout=0.3)
    return result.arrays["w"].numpy()[0, 0]


def test_a_late_reply_is_rejected_once_as_late(ledger):
    assert run_with_a_slow_node(ledger, 3) == 3
    rejected = [{(one.name, one.reason) for one in ledger.record(number).rejected} for number in (1, 2, 3)]
    silent = ("c", "it did not answer within 0.3 s")
    assert rejected == [
        {silent},
        {silent, ("c", "it arrived too late: it belongs to round 1")},
        {silent, ("c", "it arrived too late: it belongs to round 2")},
    ]
    assert not any(one.counts_toward_exclusion for number in (2, 3) for one in ledger.record(number).rejected)


def test_a_late_update_is_discounted_and_applied_to_the_current_base(ledger):
    last = run_with_a_slow_node(ledger, 2, staleness_discount=0.5)
    # Round 1: (1 + 1) / 2. Round 2: a and b are at 2, and c's +4 of round 1 is halved: 1 + 2.
    assert last == pytest.approx((2 + 2 + 3) / 3)
    facts = ledger.record(2).contributions["c"]
    assert facts.staleness == 1
    assert facts.share == pytest.approx(0.5 / 3)
    assert facts.norm == pytest.approx(2 * np.sqrt(6))
    received = [event.name for event in ledger.events() if event.kind == "contribution-received" and event.round == 2]
    assert sorted(received) == ["a", "b", "c"]


def test_the_discount_grows_with_each_round_of_staleness(ledger):
    last = run_with_a_slow_node(ledger, 3, rounds_late=2, staleness_discount=0.5)
    # c's +4 of round 1 comes in round 3: a quarter of it, to the base 2.
    assert last == pytest.approx((3 + 3 + 3) / 3)
    assert ledger.record(3).contributions["c"].staleness == 2


def test_a_late_contribution_whose_base_was_deleted_is_rejected(ledger):
    run_with_a_slow_node(ledger, 3, rounds_late=2, staleness_discount=0.5, keep_last=1)
    reasons = {one.reason for one in ledger.record(3).rejected}
    assert "it arrived too late: it belongs to round 1, and the base of that round is no longer stored" in reasons


def run_with_grid(grid, ledger, rounds):
    settings = {"contributors_per_round": 3, "min_train_nodes": 3, "evaluate_every": -1, "staleness_discount": 0.5}
    result = ColDFusion(contributor_names="query", ledger=ledger, **settings).start(
        grid, zero_arrays(), num_rounds=rounds, timeout=0.5
    )
    return result.arrays["w"].numpy()[0, 0]


def test_the_newer_of_two_late_contributions_counts(ledger):
    """The slow node's replies of rounds 1 and 2 come together, in round 3, which it does not answer."""
    grid = GridWithASlowNode({100: node("a"), 101: node("b"), 102: node("c", 4)}, 102, 1)
    grid.is_late_enough = lambda server_round: grid.newest_round() == 3 and server_round < 3
    run_with_grid(grid, ledger, rounds=3)
    assert ledger.record(3).contributions["c"].staleness == 1
    reasons = [one.reason for one in ledger.record(3).rejected if one.name == "c"]
    assert "it arrived too late: it belongs to round 1, and a newer one has arrived" in reasons


def test_a_contribution_of_this_round_replaces_a_late_one(ledger):
    """The slow node is quick again in round 2."""
    grid = GridWithASlowNode({100: node("a"), 101: node("b"), 102: node("c", 4)}, 102, 1)
    grid.is_late_enough = lambda server_round: grid.newest_round() == 2
    assert run_with_grid(grid, ledger, rounds=2) == pytest.approx(1 + (1 + 1 + 4) / 3)
    (rejection,) = ledger.record(2).rejected
    assert rejection.reason == "it arrived too late: it belongs to round 1, and a newer one has arrived"
