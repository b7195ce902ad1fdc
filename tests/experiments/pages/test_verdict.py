"""What an experiment's scores say in words."""

import pytest
from experiment_scores import make_scores

from coldfusion_fl.experiments.pages.verdict import caveat, findings
from coldfusion_fl.experiments.tables import Results


def scores_of(folder, **gains):
    """Scores of two seeds in which each recipe gains these points, by task, over the base."""
    base = {"a": 50.0, "b": 50.0, "u": 50.0, "v": 50.0}
    return make_scores(folder, base, gains)


BETTER = {"a": 2.0, "b": 3.0, "u": 1.0, "v": 2.0}
MIXED = {"a": -2.0, "b": 2.5, "u": -1.0, "v": -2.0}


def test_a_difference_whose_interval_is_above_zero_is_better(tmp_path):
    [found] = findings(Results(scores_of(tmp_path, paper=BETTER)))
    assert (found.of, found.to) == ("paper", "base")
    assert found.sentence == "paper is better than the base: frozen (unseen, seen)."
    assert found.unclear == ""
    assert found.estimates["frozen", "seen"].mean == 2.5


def test_worse_and_unclear_kinds_of_scores_are_told_apart(tmp_path):
    [found] = findings(Results(scores_of(tmp_path, paper=MIXED)))
    assert found.sentence == "paper is worse than the base: frozen (unseen)."
    assert found.unclear == "No clear difference: frozen (seen)."


def test_the_comparisons_of_the_experiment_come_alone(tmp_path):
    made = scores_of(tmp_path, paper=MIXED, other=BETTER)
    made.facts["experiment"]["comparisons"] = [{"of": "other", "to": "paper"}, {"of": "other", "to": "gone"}]
    [found] = findings(Results(made))
    assert found.sentence == "other is better than paper: frozen (unseen, seen)."


def test_where_nothing_differs_clearly_the_verdict_says_so(tmp_path):
    [found] = findings(Results(scores_of(tmp_path, paper={"a": 1.0, "b": -1.0, "u": 1.0, "v": -1.0})))
    assert found.sentence == "paper and the base do not differ clearly."


def test_a_single_score_has_no_interval_and_proves_nothing(tmp_path):
    made = scores_of(tmp_path, paper={"u": 20.0})
    made.facts["scores"] = {name: {"1": seeds["1"]} for name, seeds in made.facts["scores"].items()}
    [found] = findings(Results(made))
    assert found.sentence == "paper and the base do not differ clearly."


@pytest.mark.parametrize(("seeds", "warns"), [(1, True), (2, False)])
def test_one_seed_is_named_as_a_limit(tmp_path, seeds, warns):
    made = scores_of(tmp_path, paper=BETTER)
    if seeds == 1:
        made.facts["scores"] = {name: {"1": found["1"]} for name, found in made.facts["scores"].items()}
    assert ("one seed" in caveat(Results(made))) is warns
