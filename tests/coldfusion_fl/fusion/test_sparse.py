import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from random_contributions import draw, stacked

from coldfusion_fl.arrays.blocks import BLOCK
from coldfusion_fl.fusion import Contribution, Ties
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


def ties_on_whole_arrays(base, rows, thresholds, weights, scale):
    """The same sums as in blocks, of all contributions at once."""
    updates = np.stack([row - base for row in rows])
    updates *= np.abs(updates) >= np.array([[threshold] for threshold in thresholds], base.dtype)
    dtype = base.dtype if set(weights) == {1} else np.promote_types(base.dtype, np.float32)
    factors = np.array([[weight] for weight in weights], dtype)
    above, below = (factors * (updates > 0)).sum(axis=0), (factors * (updates < 0)).sum(axis=0)
    updates = updates * factors
    votes = updates.sum(axis=0)
    weight = np.where(votes >= 0, above, below)
    mean = np.abs(updates).sum(axis=0)
    mean += np.abs(votes)
    mean *= np.copysign(dtype.type(scale / 2), votes)
    return (base + np.divide(mean, weight, out=mean, where=weight > 0)).astype(base.dtype)


@settings(max_examples=40)
@given(
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.integers(1, 12),
    st.sampled_from([2, 50, BLOCK + 9]),
    st.sampled_from([0.01, 0.2, 0.7, 1.0]),
    st.booleans(),
    st.integers(0, 50),
)
def test_blocks_give_the_bytes_of_whole_arrays(dtype, count, size, density, weighted, seed):
    draw = np.random.default_rng(seed)
    base = np.round(draw.standard_normal(size), 1).astype(dtype) * dtype(draw.choice([1, 0, -0.0]))
    # Rounded, so that updates are equal, zero, or cancel each other out.
    rows = [base + np.round(0.1 * draw.standard_normal(size), 1).astype(dtype) for _ in range(count)]
    weights = draw.uniform(0.1, 1, count) if weighted else np.ones(count)
    parts = [Contribution(str(i), {"w": row}, weight=float(weights[i])) for i, row in enumerate(rows)]
    fused = Ties(density=density, scale=0.7)({"w": base}, parts)["w"]
    thresholds = [trim_threshold({"w": row}, "w", base, density) for row in rows]
    expected = ties_on_whole_arrays(base, rows, thresholds, [part.weight for part in parts], 0.7)
    assert fused.tobytes() == expected.tobytes()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("sign", [-1, 1])
def test_a_small_weight_that_wins_against_large_ones_is_exact(dtype, sign):
    """Not the difference of the weight of all and that of the others, which leaves few of its digits."""
    rows = [np.full(3, -0.001 * sign, dtype)] * 9 + [np.full(3, sign, dtype)]
    parts = [Contribution(str(i), {"w": row}, weight=0.013 if i == 9 else 1.0) for i, row in enumerate(rows)]
    fused = Ties(density=1.0)({"w": np.zeros(3, dtype)}, parts)["w"]
    assert fused == pytest.approx(sign, rel=2 * float(np.finfo(dtype).eps))


@given(
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.lists(st.sampled_from([1.0, 0.3, 0.013, 1e-3]), min_size=1, max_size=12),
    st.integers(0, 50),
)
def test_with_unequal_weights_it_is_as_exact_as_the_dtype(dtype, weights, seed):
    draw = np.random.default_rng(seed)
    # The smaller the weight, the larger the updates: else a small weight never elects a sign.
    rows = np.stack([draw.uniform(-1, 1, 500) / weight**0.9 for weight in weights]).astype(dtype).astype(np.float64)
    parts = [Contribution(f"{i:02}", {"w": row.astype(dtype)}, weight=weights[i]) for i, row in enumerate(rows)]
    fused = Ties(density=1.0)({"w": np.zeros(500, dtype)}, parts)["w"].astype(np.float64)
    expected = ties_as_written(np.zeros(500), rows, 1.0, 1.0, np.array(weights))
    votes = np.array(weights)[:, None] * rows
    clear = np.abs(votes.sum(axis=0)) > 0.02 * np.abs(votes).sum(axis=0)  # elections that no rounding changes
    steps = 16 if set(weights) == {1} else 4  # with equal weights, the sums are in the dtype itself
    np.testing.assert_allclose(fused[clear], expected[clear], rtol=steps * float(np.finfo(dtype).eps))


def test_more_contributions_than_a_byte_counts():
    base = np.zeros(3, np.float32)
    rows = [base + np.array([1, -1, 0], np.float32)] * 300
    fused = Ties(density=1.0)({"w": base}, [Contribution(str(i), {"w": row}) for i, row in enumerate(rows)])
    assert fused["w"].tolist() == [1, -1, 0]


@given(arrays(np.float32, st.integers(1, 200), elements=st.floats(-10, 10, width=32)), st.floats(0.01, 1))
def test_the_threshold_keeps_the_largest(update, density):
    threshold = trim_threshold({"w": update}, "w", np.zeros_like(update), density)
    keep = max(1, int(density * update.size))
    kept = np.count_nonzero(np.abs(update) >= threshold)
    assert kept >= keep
    assert keep == update.size or np.count_nonzero(np.abs(update) > threshold) < keep


def test_the_threshold_of_many_is_exact_too():
    rng = np.random.default_rng(0)
    base = rng.normal(size=1_500_000).astype(np.float32)
    cases = {
        "random": base + rng.normal(size=base.size).astype(np.float32),
        "sorted, so that a sample at even steps is no random one": base + np.linspace(0, 1, base.size).astype("f4"),
        "nothing was trained": base.copy(),
        "nearly all equal": base + (rng.random(base.size) < 0.001).astype(np.float32),
        "a sample that misleads": base + (np.arange(base.size) % 30 == 0).astype(np.float32) * 5,
    }
    for kind, array in cases.items():
        for density in (0.001, 0.2, 0.9):
            magnitudes = np.sort(np.abs(array - base))
            expected = magnitudes[base.size - int(density * base.size)]
            assert trim_threshold({"w": array}, "w", base, density) == expected, (kind, density)
