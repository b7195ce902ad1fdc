"""A round of candidates, and rules one after another."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_contributions import draw
from screening_rounds import round_of

from coldfusion_fl.aggregation.rules import RULES
from coldfusion_fl.aggregation.screening import Candidate, ScreeningRound, screen
from coldfusion_fl.arrays.blocks import update_norm
from coldfusion_fl.config.components import parse_components
from coldfusion_fl.fusion import Mean


def test_the_norm_is_of_the_update_and_leaves_counts_out():
    (candidate,) = round_of({"a": [3, 0, 0, 4]}).candidates.values()
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
    assert round_of({"a": [1, 0, 0, 0]}).cosines == {"a": None}
    assert round_of({"a": [0, 0, 0, 0], "b": [1, 0, 0, 0]}).cosines["a"] is None


def test_rules_compose_each_sees_what_the_others_let_through():
    updates = {
        "a": [1, 0.2, 0, 0],
        "b": [0.9, 0, 0.3, 0],
        "c": [1, 0, 0, 0.1],
        "turned": [-1, 0, 0, 0],
        "big": [900, 900, 0, 0],
    }
    round_, rejected = screen(round_of(updates), parse_components("size, direction", RULES, "screening"))
    assert set(round_.candidates) == {"a", "b", "c"}
    reasons = {name: reason for name, (_, reason) in rejected.items()}
    assert "too large" in reasons["big"]
    assert "points away" in reasons["turned"]
    assert [rejected[name][0].name for name in ("big", "turned")] == ["size", "direction"]


def test_a_round_of_nobody():
    assert screen(round_of({}), parse_components("size, direction, influence-cap", RULES, "screening"))[1] == {}
