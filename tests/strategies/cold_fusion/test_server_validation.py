"""The server scores bases by a function of its own."""

import numpy as np
import pytest
from fake_grid import node
from strategy_runs import run_strategy

from coldfusion_fl.errors import RunError
from coldfusion_fl.runs.records import ValidationScores


def test_a_round_that_lowers_the_score_is_rolled_back(ledger):
    def score(encoder):
        return -abs(float(encoder["w"][0, 0]) - 3)

    fused, *_ = run_strategy([node("a", 2), node("b", 2)], rounds=3, ledger=ledger, score_fn=score, rollback=0.5)
    # 0, 2, 4 (as good as 2), and 6 would be worse than 4 by 2.
    assert fused[0, 0] == 4
    assert ledger.record(3).rolled_back
    assert ledger.record(3).server_validation == ValidationScores(before=-1.0, after=-3.0)
    assert ledger.record(3).kept_because == "the server's validation score fell from -1 to -3"


def test_the_greedy_soup_leaves_out_contributions_that_lower_the_score():
    def score(encoder):
        return -abs(float(encoder["w"][0, 0]) - 2)

    fused, *_ = run_strategy([node("a", 2), node("b", 2), node("c", 9)], score_fn=score, screening="greedy-soup")
    assert fused[0, 0] == 2


@pytest.mark.parametrize("score", [np.float32(1), np.array(2), True])
def test_a_score_function_may_return_any_kind_of_number(score, ledger):
    run_strategy(
        [node("a"), node("b")], ledger=ledger, score_fn=lambda encoder: score, rollback=0.5, screening="greedy-soup"
    )
    assert ledger.record(1).fused


def test_a_base_that_gets_no_score_stops_the_run():
    nodes, settings = [node("a"), node("b")], {"score_fn": lambda encoder: np.nan}
    with pytest.raises(RunError, match="score of the base is not finite"):
        run_strategy(nodes, rollback=0.5, **settings)
    fused, *_ = run_strategy(nodes, screening="greedy-soup", **settings)
    assert not fused.any()  # no contribution was accepted


def test_a_fused_base_without_a_score_is_rolled_back(ledger):
    score_fn = lambda encoder: np.nan if encoder["w"][0, 0] else 0.5  # noqa: E731
    fused, *_ = run_strategy([node("a"), node("b")], rounds=2, ledger=ledger, score_fn=score_fn, rollback=0.1)
    assert not fused.any()
    assert ledger.record(2).rolled_back
    assert ledger.record(2).server_validation == ValidationScores(before=0.5, after=None)
