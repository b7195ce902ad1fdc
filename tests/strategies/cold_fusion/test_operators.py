"""Fusion operators, server optimizers and the moving average over several rounds."""

import numpy as np
import pytest
from fake_grid import SHAPE, contribution, node
from flwr.app import Array, ArrayRecord
from strategy_runs import run_strategy

from coldfusion_fl.runs.ledger import Ledger


def test_each_round_of_a_private_mean_records_the_privacy_spent(ledger):
    nodes = [node("a", 1), node("b", 1.5), node("c", 1.9)]
    fused, *_ = run_strategy(nodes, rounds=2, ledger=ledger, fusion="private-mean(clip=0.001, noise=2)")
    assert 0 < np.abs(fused).max() < 0.1
    first, second = (ledger.record(number).privacy for number in (1, 2))
    assert 0 < first.epsilon < second.epsilon
    assert [first.rounds, second.rounds] == [1, 2]
    run_strategy(nodes, rounds=3, ledger=Ledger.reopen(ledger.folder), fusion="private-mean(clip=0.001, noise=2)")
    assert ledger.record(3).privacy.rounds == 3


def test_the_moving_average_is_saved_beside_the_base(ledger):
    fused, *_ = run_strategy([node("a", 1), node("b", 1)], rounds=2, ledger=ledger, ema=0.5)
    assert fused[0, 0] == 2
    assert ledger.load_average(2)["w"][0, 0] == pytest.approx(0.5 * (0.5 * 0 + 0.5 * 1) + 0.5 * 2)


def test_fisher_diagonals_weight_the_contributions():
    def informed(value, *fisher):
        def train(message):
            content = contribution(np.full(SHAPE, value, np.float32))
            content["fisher"] = ArrayRecord({"w": Array(np.repeat(np.float32([fisher]).T, SHAPE[1], axis=1))})
            return content

        return train

    nodes = [node("a", train=informed(1, 3, 1)), node("b", train=informed(5, 1, 3))]
    fused, *_ = run_strategy(nodes, fusion="fisher")
    assert np.allclose(fused, [[2, 2, 2], [4, 4, 4]], atol=1e-4)
    nodes[1] = node("b", train=informed(5, np.nan, 3))
    fused, *_ = run_strategy(nodes, fusion="fisher", min_contributions=1)
    assert np.allclose(fused, 1)  # only the fit one was fused
    fused, *_ = run_strategy(nodes, min_contributions=2)
    assert np.allclose(fused, 3)  # the mean does not look at them
    fused, *_ = run_strategy([node("a", 1), node("b", 1)], fusion="fisher")
    assert fused[0, 0] == 0  # nobody sent one: the base is kept


@pytest.mark.parametrize("server_optimizer", ["yogi", "adam", "learning-rate(learning-rate=1e30)"])
def test_a_step_that_is_not_finite_keeps_the_base_and_the_optimizer_state(server_optimizer, ledger):
    calls = iter(range(100))
    wild = node("wild", train=lambda m: contribution(np.full(SHAPE, 1e25 if next(calls) < 2 else 1, np.float32)))
    run_strategy([node("a"), node("b"), wild], rounds=4, ledger=ledger, server_optimizer=server_optimizer)
    assert "not finite" in ledger.record(1).kept_because
    assert not ledger.record(2).fused
    assert ledger.record(4).fused == (not server_optimizer.startswith("learning"))
    assert not ledger.record(4).rejected
    for number in ledger.rounds():
        assert np.isfinite(ledger.load_base(number)["w"]).all()
