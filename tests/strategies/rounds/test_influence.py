"""How much a contributor can do to a run: to its base, and to the other contributors."""

from fake_grid import diverging_node, node
from strategy_runs import run_strategy


def test_liars_that_agree_cannot_get_an_honest_contributor_excluded(ledger):
    nodes = [node("honest", 0.1), node("liar-1", 50), node("liar-2", 51), diverging_node("broken")]
    run_strategy(nodes, rounds=5, ledger=ledger, screening="size", max_rejections=2)
    records = [ledger.record(number) for number in range(1, 6)]
    first = {rejection.name: rejection.counts_toward_exclusion for rejection in records[0].rejected}
    assert first == {"broken": True, "honest": False}
    assert all("honest" in record.sampled for record in records)
    assert records[-1].excluded.keys() == {"broken"}
