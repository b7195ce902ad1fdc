import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from random_contributions import draw, stacked

from coldfusion_fl.fusion import Ties
from coldfusion_fl.fusion.sparse import trim_threshold


def ties_as_written(base, rows, density, scale, weights):
    """Algorithm 1 of the paper, a line a line."""
    updates = rows - base
    flat = updates.reshape(len(rows), -1)
    for row in flat:
        keep = max(1, int(density * row.size))
        row[np.argsort(-np.abs(row), kind="stable")[keep:]] = 0
    weighted = flat * weights[:, None]
    elected = np.where(weighted.sum(axis=0) >= 0, 1, -1)
    agrees = (np.sign(flat) == elected) * weights[:, None]
    total, weight = (flat * agrees).sum(axis=0), agrees.sum(axis=0)
    mean = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
    return base + scale * mean.reshape(base.shape)


@given(st.integers(1, 6), st.integers(0, 50), st.floats(0.01, 1), st.booleans())
def test_it_is_the_papers_algorithm(count, seed, density, weighted):
    base, parts = draw(count, seed)
    weights = np.random.default_rng(seed).uniform(0.1, 1, count) if weighted else np.ones(count)
    parts = [dataclasses.replace(part, weight=float(w)) for part, w in zip(parts, weights, strict=True)]
    fused = Ties(density=density, scale=0.7)(base, parts)
    for name, array in base.items():
        expected = ties_as_written(array.astype(float), stacked(parts, name), density, 0.7, weights)
        assert np.allclose(fused[name], expected, atol=1e-5), name


@given(arrays(np.float32, st.integers(1, 200), elements=st.floats(-10, 10, width=32)), st.floats(0.01, 1))
def test_the_threshold_keeps_the_largest(update, density):
    threshold = trim_threshold(update, np.zeros_like(update), density)
    keep = max(1, int(density * update.size))
    kept = np.count_nonzero(np.abs(update) >= threshold)
    assert kept >= keep
    assert keep == update.size or np.count_nonzero(np.abs(update) > threshold) < keep


def test_the_threshold_of_many_is_exact_too():
    rng = np.random.default_rng(0)
    base = rng.normal(size=1_000_000).astype(np.float32)
    cases = {
        "random": base + rng.normal(size=base.size).astype(np.float32),
        "sorted, so that a sample at even steps is no random one": base + np.linspace(0, 1, base.size).astype("f4"),
        "nearly all equal": base + (rng.random(base.size) < 0.001).astype(np.float32),
        "a sample that misleads": base + (np.arange(base.size) % 30 == 0).astype(np.float32) * 5,
    }
    for kind, array in cases.items():
        for density in (0.001, 0.2, 0.9):
            magnitudes = np.sort(np.abs(array - base))
            expected = magnitudes[base.size - int(density * base.size)]
            assert trim_threshold(array, base, density) == expected, (kind, density)
