import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_contributions import draw

from coldfusion_fl.aggregation.rules import RULES, Direction, GreedySoup, InfluenceCap, Size
from coldfusion_fl.aggregation.screening import Candidate, ScreeningRound, screen
from coldfusion_fl.arrays.blocks import update_norm
from coldfusion_fl.arrays.mismatch import find_mismatch
from coldfusion_fl.config.components import parse_components
from coldfusion_fl.fusion import Contribution, Mean, Median, WeightedMean

BASE = {"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.float32)}


def test_a_fit_contribution():
    assert find_mismatch(BASE, {name: array + 1 for name, array in BASE.items()}) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"classifier.weight": np.zeros(2, np.float32)},
            "1 weight that the base has not: 'classifier.weight' (a head",
        ),
        ({"b": None}, "lacks 1 weight of the base: 'b'"),
        ({"a": np.zeros((3, 2), np.float32)}, "'a' has the shape (3, 2), not the base's (2, 3)"),
        ({"a": np.zeros((2, 3), np.float64)}, "'a' has the type float64, not the base's float32"),
        ({"b": np.array([0, 0, np.nan, 0], np.float32)}, "'b' holds values that are not finite"),
        ({"b": np.array([0, -np.inf, 0, 0], np.float32)}, "'b' holds values that are not finite"),
    ],
)
def test_a_mismatch_is_explained(change, words):
    contribution = {**BASE, **change}
    contribution = {name: array for name, array in contribution.items() if array is not None}
    assert words in find_mismatch(BASE, contribution)


def of(updates, operator=None, score_fn=None, past=None, **metrics):
    """A round of updates by name, each a vector of a two-array base."""
    base = {"w": np.zeros((2, 2), np.float32), "count": np.array(1)}
    candidates = {}
    for name, update in updates.items():
        encoder = {"w": np.float32(update).reshape(2, 2), "count": np.array(5)}
        numbers = {key: values[name] for key, values in metrics.items()}
        contribution = Contribution(name, encoder, metrics=numbers)
        candidates[name] = Candidate(contribution, update_norm(base, encoder), past_norms=(past or {}).get(name, ()))
    return ScreeningRound(base, candidates, operator or Mean(), score_fn)


def test_the_norm_is_of_the_update_and_leaves_counts_out():
    (candidate,) = of({"a": [3, 0, 0, 4]}).candidates.values()
    assert candidate.norm == pytest.approx(5)


@given(st.integers(2, 6), st.integers(0, 20))
def test_the_cosine_is_to_the_mean_direction_of_the_others(count, seed):
    base, parts = draw(count, seed)
    candidates = {p.name: Candidate(p, update_norm(base, p.encoder)) for p in parts}
    cosines = ScreeningRound(base, candidates, Mean()).cosines
    updates = {p.name: np.concatenate([(p.encoder[n] - base[n]).reshape(-1) for n in base]) for p in parts}
    for name, update in updates.items():
        others = sum(u / np.linalg.norm(u) for n, u in updates.items() if n != name)
        expected = update @ others / np.linalg.norm(update) / np.linalg.norm(others)
        assert cosines[name] == pytest.approx(expected, abs=1e-4)


def test_who_is_alone_has_no_direction_to_be_told_from():
    assert of({"a": [1, 0, 0, 0]}).cosines == {"a": None}
    assert of({"a": [0, 0, 0, 0], "b": [1, 0, 0, 0]}).cosines["a"] is None


def test_too_large_too_small_and_nothing_at_all():
    updates = {"a": [1, 0, 0, 0], "b": [0, 1.2, 0, 0], "c": [0, 0, 0.9, 0], "big": [0, 0, 0, 1000]}
    rejected = Size()(of({**updates, "tiny": [1e-3, 0, 0, 0], "same": [0, 0, 0, 0]})).rejected
    assert rejected.keys() == {"big", "tiny", "same"}
    assert "too large: 1.05e+03 times the round's median (a norm of 1e+03 against 0.95)" in rejected["big"]
    assert "suspiciously small: 0.00105 times the round's median" in rejected["tiny"]
    assert rejected["same"] == "it sent the base back unchanged"


def test_two_cannot_be_told_apart_but_a_past_can():
    two = {"a": [1, 0, 0, 0], "b": [0, 100, 0, 0]}
    assert not Size()(of(two)).rejected
    rejected = Size()(of(two, past={"b": [1.0, 1.1, 0.9], "a": [1.0, 1.0]})).rejected
    assert rejected.keys() == {"b"}
    assert "100 times the median of its own past" in rejected["b"]


def test_a_turned_update_points_away():
    honest = {"a": [1, 0.2, 0, 0], "b": [0.9, 0, 0.3, 0], "c": [1, 0, 0, 0.1]}
    round_ = of({**honest, "turned": [-1, 0, -0.2, 0]})
    rejected = Direction()(round_).rejected
    assert rejected.keys() == {"turned"}
    assert "a cosine of -0.9" in rejected["turned"]
    assert not Direction()(of(honest)).rejected
    assert not Direction()(of({"a": [1, 0, 0, 0], "b": [-1, 0, 0, 0]})).rejected


@pytest.mark.parametrize(("dtype", "size"), [(np.float32, 3.4e38), (np.float32, 1e-30), (np.float64, 1e150)])
def test_no_size_hides_a_direction(dtype, size):
    base = {"w": np.zeros((2, 2), dtype)}
    honest = {"a": [1, 0.2, 0, 0], "b": [0.9, 0, 0.3, 0], "c": [1, 0, 0, 0.1], "d": [1, 0, 0.1, 0]}
    encoders = {name: {"w": np.array(update, dtype).reshape(2, 2)} for name, update in honest.items()}
    encoders["turned"] = {"w": np.full((2, 2), -size, dtype)}
    candidates = {n: Candidate(Contribution(n, encoder), update_norm(base, encoder)) for n, encoder in encoders.items()}
    round_ = ScreeningRound(base, candidates, Mean())
    assert all(np.isfinite(cosine) for cosine in round_.cosines.values())
    assert Direction()(round_).rejected.keys() == {"turned"}


def test_the_greedy_soup_keeps_contributions_that_do_not_lower_the_score():
    def score_fn(encoder):
        return -float(np.abs(encoder["w"] - 1).sum())

    updates = {"good": [1, 1, 1, 1], "fair": [1, 1, 1, 1.1], "bad": [9, 9, 9, 9]}
    rejected = GreedySoup(tolerance=0.06)(of(updates, score_fn=score_fn)).rejected
    assert rejected.keys() == {"bad"}
    assert "the server-validation score would fall from -0 to -10.7" in rejected["bad"]
    assert GreedySoup()(of(updates, score_fn=score_fn)).rejected.keys() == {"bad", "fair"}


@given(st.lists(st.just(0.0) | st.floats(0.1, 1000), min_size=2, max_size=8).filter(any), st.floats(0.05, 1))
def test_nobody_has_more_than_its_share(norms, share):
    updates = {f"c{i}": [norm, 0, 0, 0] for i, norm in enumerate(norms)}
    round_, rejected = screen(of(updates), [InfluenceCap(share=share)])
    assert not rejected
    influence = [c.contribution.weight * c.norm for c in round_.candidates.values()]
    movers = sum(norm > 0 for norm in norms)
    assert max(influence) <= max(share, 1 / movers) * sum(influence) * (1 + 1e-6)
    within = [c for c in round_.candidates.values() if c.contribution.weight == 1 and c.norm]
    assert within or share <= 1 / movers
    assert all(c.contribution.weight == 1 for c in round_.candidates.values() if not c.norm)


def test_a_claim_of_many_examples_is_capped():
    updates = {name: [1, 0, 0, 0] for name in "abcd"}
    claims = {"a": 10, "b": 12, "c": 8, "d": 10**9}
    round_, _ = screen(of(updates, WeightedMean(), **{"num-examples": claims}), [InfluenceCap(share=0.3)])
    weights = {n: WeightedMean().weight_of(c.contribution) for n, c in round_.candidates.items()}
    assert weights["d"] / sum(weights.values()) <= 0.4 + 1e-6  # 1/4 each cannot be 0.3: b takes some
    assert max(weights.values()) / sum(weights.values()) <= 0.3 + 1e-6
    assert not screen(of(updates, Median()), [InfluenceCap()])[0].candidates["a"].contribution.weight < 1


def test_rules_compose_each_sees_what_the_others_let_through():
    updates = {
        "a": [1, 0.2, 0, 0],
        "b": [0.9, 0, 0.3, 0],
        "c": [1, 0, 0, 0.1],
        "turned": [-1, 0, 0, 0],
        "big": [900, 900, 0, 0],
    }
    round_, rejected = screen(of(updates), parse_components("size, direction", RULES, "screening"))
    assert set(round_.candidates) == {"a", "b", "c"}
    reasons = {name: reason for name, (_, reason) in rejected.items()}
    assert "too large" in reasons["big"]
    assert "points away" in reasons["turned"]
    assert [rejected[name][0].name for name in ("big", "turned")] == ["size", "direction"]


def test_a_round_of_nobody():
    assert screen(of({}), parse_components("size, direction, influence-cap", RULES, "screening"))[1] == {}
