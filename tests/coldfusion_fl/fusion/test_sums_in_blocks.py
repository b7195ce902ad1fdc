"""Sums in blocks on all cores give the bytes of the formulas on whole arrays."""

import math
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coldfusion_fl.arrays.blocks import BLOCK
from coldfusion_fl.fusion import Contribution, Dare, Mean, TaskArithmetic, WeightedMean

WIDE = {np.float16: np.float32, np.float32: np.float32, np.float64: np.float64}
SHAPES = {"large": (3, BLOCK // 2 + 7), "row": (5,), "number": (), "none": (0, 3)}


def drawn(seed, count, dtype, weights):
    draw = np.random.default_rng(seed)
    base, *others = (
        {name: np.asarray(draw.standard_normal(shape), dtype) for name, shape in SHAPES.items()}
        for _ in range(count + 1)
    )
    # In the order of Fortran, as an array of a transposed tensor is.
    others[0]["large"] = np.asfortranarray(others[0]["large"])
    parts = [
        Contribution(f"c{i}", encoder, round=3, weight=weight, metrics={"num-examples": 10.0 * (i + 1)})
        for i, (encoder, weight) in enumerate(zip(others, weights, strict=False))
    ]
    return base, parts


def mean(base, parts, weights, name, dtype):
    total = None
    for part, weight in zip(parts, weights, strict=True):
        product = np.multiply(part.encoder[name], weight, dtype=WIDE[dtype])
        total = product if total is None else total + product
    return (total * (1 / sum(weights))).astype(dtype)


def moved(base, parts, name, dtype, scale, keep):
    total = np.zeros(base[name].shape, WIDE[dtype])
    for part in parts:
        update = np.subtract(part.encoder[name], base[name], dtype=WIDE[dtype]) * keep(part, name, base[name].shape)
        total += np.multiply(update, part.weight, dtype=WIDE[dtype])
    return (total * scale + base[name]).astype(dtype)


def kept(operator, part, name, shape):
    entropy = [operator.seed, part.round, zlib.crc32(part.name.encode()), zlib.crc32(name.encode())]
    raw = np.random.PCG64(entropy).random_raw(math.prod(shape) // 4 + 1)
    numbers = np.ravel([[r >> shift & 0xFFFF for shift in (0, 16, 32, 48)] for r in map(int, raw)])
    return numbers[: math.prod(shape)].reshape(shape) / 2**16 >= rounded(operator.drop_rate)


def rounded(drop_rate):
    """The closest multiple of 2⁻¹⁶ below 1."""
    return min(round(drop_rate * 2**16), 2**16 - 1) / 2**16


@settings(max_examples=30)
@given(
    st.integers(0, 20),
    st.integers(1, 4),
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.lists(st.sampled_from([1.0, 0.3, 0.9]), min_size=4, max_size=4),
    st.sampled_from([0.0, 0.1, 0.5, 1 / 3, 0.9, 1 - 1e-9]),
)
# The drawn examples are the same in each run, and most have a rate of 0 or 0.1. The first two are rounded down.
@example(0, 2, np.float32, [1.0] * 4, 1 - 1e-9)
@example(0, 3, np.float16, [1.0, 0.3, 0.9, 1.0], 0.99999999)
@example(0, 2, np.float32, [1.0] * 4, 1 - 2**-16)
def test_blocks_give_the_bytes_of_whole_arrays(seed, count, dtype, weights, drop_rate):
    base, parts = drawn(seed, count, dtype, weights)
    dare = Dare(drop_rate=drop_rate, seed=seed)
    total = sum(part.weight for part in parts)
    rescaled = 1 / ((1 - rounded(drop_rate)) * total)
    found = {operator: operator(base, parts) for operator in (Mean(), WeightedMean(), TaskArithmetic(), dare)}
    for name in SHAPES:
        counted = [part.weight * part.metrics["num-examples"] for part in parts]
        expected = {
            "mean": mean(base, parts, [part.weight for part in parts], name, dtype),
            "weighted-mean": mean(base, parts, counted, name, dtype),
            "task-arithmetic": moved(base, parts, name, dtype, 0.3, lambda *part: True),
            "dare": moved(base, parts, name, dtype, rescaled, lambda *part: kept(dare, *part)),
        }
        for operator, fused in found.items():
            assert fused[name].tobytes() == np.asarray(expected[operator.name]).tobytes(), (operator.name, name)
            assert fused[name].shape == base[name].shape


def test_a_weight_does_not_overflow_float16():
    parts = [Contribution("a", {"w": np.full(3, 500, np.float16)}, metrics={"num-examples": 640.0})]
    assert WeightedMean()({}, parts)["w"].tolist() == pytest.approx([500] * 3)
