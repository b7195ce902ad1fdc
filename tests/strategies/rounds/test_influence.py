"""How much a contributor can do to a run: to its base, and to the other contributors."""

from contextlib import closing

import numpy as np
import pytest
from fake_grid import contribution, diverging_node, node
from flwr.app import Array, ArrayRecord, Message, RecordDict
from strategy_runs import run_strategy

from coldfusion_fl.aggregation.screening import Candidate
from coldfusion_fl.arrays.disk_arrays import ArrayFile
from coldfusion_fl.fusion import Mean
from coldfusion_fl.strategies.rounds.validation import ReplyValidator


def test_liars_that_agree_cannot_get_an_honest_contributor_excluded(ledger):
    nodes = [node("honest", 0.1), node("liar-1", 50), node("liar-2", 51), diverging_node("broken")]
    run_strategy(nodes, rounds=5, ledger=ledger, screening="size", max_rejections=2)
    records = [ledger.record(number) for number in range(1, 6)]
    first = {rejection.name: rejection.counts_toward_exclusion for rejection in records[0].rejected}
    assert first == {"broken": True, "honest": False}
    assert all("honest" in record.sampled for record in records)
    assert records[-1].excluded.keys() == {"broken"}


def shares(ledger, number=1):
    return {name: found.share for name, found in ledger.record(number).contributions.items()}


def counted(name, value, examples):
    def train(message):
        base = message.content["arrays"]["w"].numpy()
        return contribution(base + np.float32(value), examples=examples)

    return node(name, train=train)


def test_a_false_number_of_examples_does_not_own_the_result(ledger):
    nodes = [counted("a", 1, 10), counted("b", 1, 12), counted("liar", 100, 10**12)]
    fused, *_ = run_strategy(nodes, ledger=ledger, fusion="weighted-mean")
    assert shares(ledger) == pytest.approx({"a": 10 / 82, "b": 12 / 82, "liar": 60 / 82})
    assert fused[0, 0] == pytest.approx((22 + 6000) / 82)
    assert ledger.record(1).contributions["liar"].reported["num-examples"] == 10**12  # the record has what it said


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"fusion": "mean"}, [1 / 2, 1 / 2]),
        ({"fusion": "task-arithmetic(scale=0.3)"}, [0.3, 0.3]),
        ({"screening": "influence-cap(share=0.5)"}, [3 / 4, 1 / 4]),
        ({"fusion": "private-mean(clip=2.4495, noise=1)"}, [1 / 2, 1 / 6]),
        ({"fusion": "ties"}, [None, None]),
        ({"fusion": "median"}, [None, None]),
    ],
    ids=str,
)
def test_the_record_has_the_true_weight_of_each_contribution(settings, expected, ledger):
    run_strategy([node("a", 1), node("b", 3)], ledger=ledger, **settings)
    found = list(shares(ledger).values())
    assert found == (expected if None in expected else pytest.approx(expected, rel=1e-3))


def test_a_kept_base_has_no_shares(ledger):
    run_strategy([node("a", 1), node("b", 3), diverging_node("c")], ledger=ledger, min_contributions=3)
    assert shares(ledger) == {"a": None, "b": None}


def scaled(name, factor):
    """A node that sends the base times a factor, or ones while the base is zero."""

    def train(message):
        base = message.content["arrays"]["w"].numpy()
        return contribution(base * np.float32(factor) if base.any() else np.ones_like(base))

    return node(name, train=train)


def test_an_update_that_is_absurd_against_the_base_is_rejected_without_any_rule(ledger):
    nodes = [node("a"), scaled("ninety", 90), scaled("liar", 1e4)]
    run_strategy(nodes, rounds=4, ledger=ledger, max_rejections=2)
    (rejection,) = ledger.record(2).rejected
    assert rejection.name == "liar"
    assert rejection.counts_toward_exclusion
    assert "1e+04 times as long as the base itself" in rejection.reason
    assert ledger.record(4).excluded.keys() == {"liar"}


def test_a_base_that_began_at_zero_may_grow_by_much(ledger):
    run_strategy(
        [node("a"), node("b", 1.5)], rounds=3, ledger=ledger, server_optimizer="learning-rate(learning-rate=1e-4)"
    )
    assert [len(ledger.record(number).contributions) for number in (1, 2, 3)] == [2, 2, 2]


def test_running_statistics_may_be_far_from_those_of_the_base():
    base = {"w": np.ones(3, np.float32), "bn.running_var": np.ones(3, np.float32)}
    far = {"w": base["w"] + 1, "bn.running_var": np.full(3, 1e5, np.float32)}
    reply = Message(
        RecordDict({"arrays": ArrayRecord({name: Array(array) for name, array in far.items()})}),
        dst_node_id=1,
        message_type="train",
    )
    with closing(ArrayFile()) as file:
        validator = ReplyValidator(base, {}, Mean(), 1, file, None, "arrays", "config")
        assert isinstance(validator.validate("a", reply), Candidate)
