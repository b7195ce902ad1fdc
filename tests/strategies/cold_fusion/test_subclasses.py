"""A subclass overrides one hook, as with FedAvg."""

import numpy as np
from fake_grid import FakeGrid, node
from strategy_runs import trained_nodes, zero_arrays

from coldfusion_fl.strategies import ColDFusion


def start(strategy, nodes):
    grid = FakeGrid(dict(enumerate(nodes, start=100)))
    return strategy.start(grid, zero_arrays(), num_rounds=2, timeout=5), grid


def test_a_subclass_chooses_the_contributors(ledger):
    class FirstByName(ColDFusion):
        def sample(self, names, server_round):
            return sorted(names)[: self.settings.contributors_per_round]

    strategy = FirstByName(contributor_names="query", contributors_per_round=2, min_available_nodes=3, ledger=ledger)
    result, grid = start(strategy, [node("c", 9), node("a", 1), node("b", 3)])
    assert [ledger.record(number).sampled for number in (1, 2)] == [["a", "b"]] * 2
    assert trained_nodes(grid) == {101, 102}
    assert result.arrays["w"].numpy()[0, 0] == 4


def test_a_subclass_changes_what_is_aggregated(ledger):
    class Halved(ColDFusion):
        def aggregate_train(self, server_round, replies):
            arrays, metrics = super().aggregate_train(server_round, replies)
            metrics["halved"] = 1
            return type(arrays)({"w": type(arrays["w"])(arrays["w"].numpy() / 2)}), metrics

    strategy = Halved(contributor_names="query", contributors_per_round=2, ledger=ledger)
    result, _ = start(strategy, [node("a", 1), node("b", 3)])
    assert result.train_metrics_clientapp[2]["halved"] == 1
    # The first base is (0 + 2) / 2, the second (1 + 2) / 2; what the subclass returns is saved.
    assert ledger.load_base(1)["w"][0, 0] == 1
    assert np.allclose(ledger.load_base(2)["w"], 1.5)
