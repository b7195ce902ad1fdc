"""The names and values of what is logged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tracked_runs import HOSTILE

from coldfusion_fl.runs.records import (
    ContributionRecord,
    PrivacySpent,
    RejectionRecord,
    RoundRecord,
    UpdateFacts,
    ValidationScores,
)
from coldfusion_fl.tracking.metrics import name_part, round_metrics, score_metrics


def contribution(**reported):
    return ContributionRecord(norm=2, cosine=0.5, share=0.5, bytes=10, reported=reported)


def test_the_metrics_of_a_round():
    record = RoundRecord(
        round=3,
        began=100.0,
        trained=107.0,
        ended=110.0,
        sampled=["a", "b", "c", "d"],
        missing=["e"],
        contributions={
            "a": contribution(loss=1.0, seconds=5.0, **{"coldfusion.round": 3}),
            "b": contribution(loss=2.0, seconds=6.0, **{"coldfusion.round": 3}).model_copy(update={"staleness": 1}),
        },
        rejected=[
            RejectionRecord(name="c", reason="too large", facts=UpdateFacts(norm=9, bytes=5, reported={"loss": 7.0})),
            RejectionRecord(name="d", reason="it did not answer", received=False),
        ],
        fused=True,
        update_norm=0.5,
        privacy=PrivacySpent(epsilon=1.5, delta=1e-5, rounds=3),
        server_validation=ValidationScores(before=50.0, after=51.0),
    )
    assert round_metrics(record) == {
        "round/sampled": 4, "round/contributions": 2, "round/rejected": 2, "round/missing": 1, "round/excluded": 0,
        "round/paused": 0, "round/fused": 1, "round/loss": 1.5, "round/update-norm": 0.5, "round/bytes": 25,
        "round/seconds": 10, "round/training-seconds": 7, "round/epsilon": 1.5, "round/validation-before": 50,
        "round/validation-after": 51,
        "contributor/a/rejected": 0, "contributor/a/norm": 2, "contributor/a/cosine": 0.5, "contributor/a/share": 0.5,
        "contributor/a/bytes": 10, "contributor/a/loss": 1, "contributor/a/seconds": 5,
        "contributor/b/rejected": 0, "contributor/b/norm": 2, "contributor/b/cosine": 0.5, "contributor/b/share": 0.5,
        "contributor/b/bytes": 10, "contributor/b/loss": 2, "contributor/b/seconds": 6, "contributor/b/staleness": 1,
        "contributor/c/rejected": 1, "contributor/c/norm": 9, "contributor/c/bytes": 5, "contributor/c/loss": 7,
        "contributor/d/rejected": 1,
    }  # fmt: skip


def test_the_first_base_has_no_contributors():
    assert round_metrics(RoundRecord(round=0)) == {"round/fused": 0}


def test_the_metrics_of_scores():
    scores = {
        "a": {"frozen": 50.0, "seen": True, "num-examples": 20.0, "metric": "accuracy"},
        "b": {"frozen": 60.0, "seen": True, "num-examples": 20.0},
        "u": {"frozen": 30.0, "few-shot": 20.0, "seen": False, "num-examples": 20.0},
    }
    assert score_metrics(scores) == {
        "score/frozen/a": 50, "score/frozen/b": 60, "score/frozen/u": 30, "score/few-shot/u": 20,
        "mean/frozen/seen": 55, "mean/frozen/unseen": 30, "mean/frozen/all": pytest.approx(140 / 3),
        "mean/few-shot/unseen": 20, "mean/few-shot/all": 20,
    }  # fmt: skip


def test_the_errors_of_differences_are_no_scores():
    scores = {name: {"frozen": 50.0, "frozen-difference-error": 1.5, "seen": True} for name in "ab"}
    assert score_metrics(scores) == {
        "score/frozen/a": 50, "score/frozen/b": 50, "mean/frozen/seen": 50, "mean/frozen/all": 50,
    }  # fmt: skip


def test_a_contributor_alone_neither_adds_nor_hides_a_metric():
    flood = {f"x{number}": 1.0 for number in range(100)}
    contributions = {"a": contribution(loss=1.0, f1=0.5), "b": contribution(loss=2.0, f1=0.6, **flood)}
    names = round_metrics(RoundRecord(round=1, contributions=contributions))
    assert names["contributor/b/f1"] == 0.6  # all contributors report it
    assert not any("/x" in name for name in names)
    contributions["silent"] = contribution()
    assert round_metrics(RoundRecord(round=1, contributions=contributions))["contributor/a/loss"] == 1.0


def test_scores_of_a_project_of_ones_own_are_logged_if_all_nodes_have_them():
    metrics = score_metrics({"a": {"accuracy": 0.5, "odd": 1.0}, "b": {"accuracy": 0.7}})
    assert metrics.keys() == {
        "score/accuracy/a", "score/accuracy/b", "mean/accuracy/seen", "mean/accuracy/all",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["newsgroups", "reuters_r8", "Org-1.a"])
def test_a_usual_name_stays_as_it_is(name):
    assert name_part(name) == name


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_name_is_a_part_of_a_path(name):
    part = name_part(name)
    assert part not in (".", "..")
    assert 0 < len(part) < 100
    assert part.isascii()
    assert not set(part) & set("/\\<> \n\x1b")


@given(st.text(), st.text())
def test_two_names_never_become_one(one, other):
    assert (name_part(one) == name_part(other)) is (one == other)
    assert name_part(name_part(one)) != name_part(one) or name_part(one) == one
