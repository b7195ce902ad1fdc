"""The shares of a round's record: how much each contribution counts in the fused encoder."""

import dataclasses

import numpy as np
import pytest
from random_contributions import draw, stacked

from coldfusion_fl.fusion import (
    Dare,
    Fisher,
    GeometricMedian,
    Karcher,
    Mean,
    Median,
    PrivateMean,
    TaskArithmetic,
    Ties,
    TrimmedMean,
    WeightedMean,
    fuse_with_shares,
)


def weighted(parts):
    return [dataclasses.replace(part, weight=weight) for part, weight in zip(parts, [1, 0.25, 0.5], strict=True)]


@pytest.mark.parametrize(
    "operator",
    [Mean(), WeightedMean(), TaskArithmetic(), Dare(drop_rate=0), GeometricMedian(), PrivateMean(clip=0.3, noise=1e-9)],
    ids=lambda operator: operator.name,
)
def test_the_fused_update_is_the_sum_of_the_updates_times_their_shares(operator):
    base, parts = draw(3)
    parts = weighted(parts)
    fused, shares = fuse_with_shares(operator, base, parts)
    for name, array in base.items():
        updates = stacked(parts, name) - array
        assert np.allclose(fused[name] - array, np.tensordot(shares, updates, axes=1), atol=1e-5)


def test_the_share_of_a_fisher_weighted_mean_is_the_mean_over_the_elements():
    base, parts = draw(3, fisher=True)
    parts = weighted(parts)
    _, shares = fuse_with_shares(Fisher(), base, parts)
    probes = []
    for part in parts:  # an element of the result is the element's share where one update is 1 and the others are 0
        ones = [dataclasses.replace(p, encoder={n: a + (p is part) for n, a in base.items()}) for p in parts]
        moved = Fisher()(base, ones)
        probes.append(np.mean(np.concatenate([np.ravel(moved[name] - base[name]) for name in base])))
    assert shares == pytest.approx(probes, abs=1e-5)


@pytest.mark.parametrize("operator", [Ties(), Median(), TrimmedMean(), Karcher()], ids=lambda operator: operator.name)
def test_an_operator_without_one_factor_for_a_contribution_has_no_shares(operator):
    assert fuse_with_shares(operator, *draw(3))[1] is None
