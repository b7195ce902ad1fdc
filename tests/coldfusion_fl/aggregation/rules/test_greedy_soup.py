"""The rule `greedy-soup`."""

import numpy as np
from screening_rounds import round_of

from coldfusion_fl.aggregation.rules import GreedySoup


def test_the_greedy_soup_keeps_contributions_that_do_not_lower_the_score():
    def score_fn(encoder):
        return -float(np.abs(encoder["w"] - 1).sum())

    updates = {"good": [1, 1, 1, 1], "fair": [1, 1, 1, 1.1], "bad": [9, 9, 9, 9]}
    rejected = GreedySoup(tolerance=0.06)(round_of(updates, score_fn=score_fn)).rejected
    assert rejected.keys() == {"bad"}
    assert "the server-validation score would fall from -0 to -10.7" in rejected["bad"]
    assert GreedySoup()(round_of(updates, score_fn=score_fn)).rejected.keys() == {"bad", "fair"}
