"""The Fisher-weighted mean, and what a contributor can do to it with its diagonal."""

import dataclasses

import numpy as np
import pytest
from random_contributions import draw, stacked

from coldfusion_fl.fusion import Fisher


def scaled(parts, name):
    """The diagonals of one tensor, each with the mean 1; shape (contributions, ...)."""
    return np.stack([part.fisher[name] / part.fisher[name].mean(dtype=float) for part in parts])


def test_it_is_the_formula_within_the_limit_and_the_mean_where_nobody_knows():
    base, parts = draw(4, fisher=True)
    for part in parts:
        part.fisher["w0"] += 1  # all within a factor of five
        part.fisher["w1"][:20] = 0
    fused = Fisher(floor=1e-6)(base, parts)
    information = scaled(parts, "w0")
    expected = (information * stacked(parts, "w0")).sum(axis=0) / information.sum(axis=0)
    assert np.allclose(fused["w0"], expected, atol=1e-4)
    assert np.allclose(fused["w1"][:20], stacked(parts, "w1").mean(axis=0)[:20], atol=1e-5)


def test_in_no_element_a_diagonal_counts_for_more_than_five_times_the_lower_median():
    base, parts = draw(5, fisher=True)
    fused = Fisher()(base, parts)
    information = scaled(parts, "w0") + 1e-6
    information = np.minimum(information, 5 * np.sort(information, axis=0)[2])
    expected = (information * stacked(parts, "w0")).sum(axis=0) / information.sum(axis=0)
    assert np.allclose(fused["w0"], expected, atol=1e-5)


@pytest.mark.parametrize("factor", [1e-20, 1e3, 1e30])
@pytest.mark.parametrize("names", [("w0",), ("w0", "w1", "w2")])
def test_nobody_weighs_more_by_larger_values_in_some_or_all_tensors(factor, names):
    base, parts = draw(4, fisher=True)
    expected = Fisher()(base, parts)
    for name in names:
        parts[0].fisher[name] = parts[0].fisher[name] * np.float32(factor)
    fused = Fisher()(base, parts)
    assert all(np.allclose(fused[name], expected[name], rtol=1e-5) for name in base)


@pytest.mark.parametrize("kind", ["flat", "a peak", "the largest float64"])
def test_a_diagonal_of_any_form_does_not_own_the_result(kind):
    base, parts = draw(6, shapes=((4000,),), fisher=True)
    draws = np.random.default_rng(1)
    for part in parts:  # most of its information is in few elements, as it is in honest diagonals
        part.fisher["w0"] = draws.pareto(0.7, 4000).astype(np.float32)
    liar = parts[0]
    if kind == "a peak":
        liar.fisher["w0"] = np.float32(np.arange(4000) == 7)
    else:
        liar.fisher["w0"] = np.full(4000, 1.0 if kind == "flat" else 1.7e308)
    fused, shares = Fisher().fuse_with_shares(base, parts)
    others = np.stack([part.encoder["w0"] for part in parts[1:]])
    share = (fused["w0"] - others.mean(axis=0)) / (liar.encoder["w0"] - others.mean(axis=0))
    assert shares[0] < 5 / 8  # at most five times the weight of three others
    assert np.median(share) < 5 / 8
    assert sum(shares) == pytest.approx(1)


def test_a_fisher_diagonal_is_checked():
    _, (part, *_) = draw(1, fisher=True)
    assert Fisher().rejection_reason(part) is None
    assert "has no Fisher" in Fisher().rejection_reason(dataclasses.replace(part, fisher=None))
    assert "has no array 'w1'" in Fisher().rejection_reason(dataclasses.replace(part, fisher={"w0": part.fisher["w0"]}))
    bad = {**part.fisher, "w1": -part.fisher["w1"]}
    assert "negative or not finite" in Fisher().rejection_reason(dataclasses.replace(part, fisher=bad))
