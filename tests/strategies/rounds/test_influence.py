"""How much a contributor can do to a run: to its base, and to the other contributors."""

import numpy as np
import pytest
from fake_grid import contribution, diverging_node, node
from strategy_runs import run_strategy


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
