import dataclasses
import tracemalloc

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from random_contributions import draw, stacked

from coldfusion_fl.errors import FusionError
from coldfusion_fl.fusion import Contribution, Dare, Mean, TaskArithmetic, WeightedMean, fuse, limit_to_median

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)


def floats(count):
    return array_shapes(min_dims=0, max_dims=3, max_side=4).flatmap(
        lambda shape: st.lists(arrays(np.float32, shape, elements=FLOATS), min_size=count, max_size=5)
    )


def named(parts, weights=None):
    weights = weights or [1.0] * len(parts)
    return [Contribution(f"c{i}", {"w": p}, weight=w) for i, (p, w) in enumerate(zip(parts, weights, strict=True))]


@given(floats(1), st.integers(0, 10))
def test_the_mean_is_the_mean(parts, seed):
    fused = Mean()({}, named(parts))["w"]
    exact = np.mean(np.stack(parts).astype(np.longdouble), axis=0)
    assert fused.dtype == np.float32
    assert fused.shape == parts[0].shape
    slack = (len(parts) + 1) * np.finfo(np.float32).eps * np.max(np.abs(np.stack(parts)), axis=0)
    assert np.all(np.abs(fused - exact) <= slack + np.finfo(np.float32).tiny)


@given(floats(2), st.data())
def test_the_weighted_mean_agrees_with_flowers_fedavg(parts, data):
    counts = data.draw(st.lists(st.integers(1, 10_000), min_size=len(parts), max_size=len(parts)))
    replies = [
        RecordDict({"a": ArrayRecord({"w": Array(part)}), "m": MetricRecord({"num-examples": count})})
        for part, count in zip(parts, counts, strict=True)
    ]
    theirs = aggregate_arrayrecords(replies, "num-examples")["w"].numpy()
    reported = [dataclasses.replace(c, metrics={"num-examples": n}) for c, n in zip(named(parts), counts, strict=True)]
    ours = WeightedMean()({}, reported)["w"]
    scale = np.max(np.abs(np.stack(parts)), axis=0)
    assert np.all(np.abs(ours - theirs) <= 1e-5 * scale + 1e-30)


def test_it_takes_contributions_one_at_a_time_and_does_not_change_them():
    base, parts = draw(6)
    before = {(part.name, name): array.copy() for part in parts for name, array in part.encoder.items()}
    for operator in (Mean(), WeightedMean(), TaskArithmetic(), Dare()):
        one, other = operator(base, iter(parts)), operator(base, parts)
        assert all(one[name].tobytes() == other[name].tobytes() for name in base)
    for part in parts:
        assert all(np.array_equal(array, before[part.name, name]) for name, array in part.encoder.items())


@pytest.mark.parametrize("operator", [Mean(), WeightedMean(), TaskArithmetic(), Dare()])
def test_memory_does_not_grow_with_the_contributions(operator):
    shape = (1 << 20,)
    base = {"w": np.zeros(shape, np.float32)}

    def parts(count):
        for number in range(count):
            yield Contribution(
                f"c{number}", {"w": np.full(shape, number, np.float32)}, metrics={"num-examples": number + 1}
            )

    peaks = []
    for count in (2, 20):
        tracemalloc.start()
        operator(base, parts(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.05 * peaks[0]


def test_any_reported_number_can_be_the_weight():
    _, parts = draw(3)
    parts = [dataclasses.replace(part, metrics={"tokens": n}) for part, n in zip(parts, [2, 1, 5], strict=True)]
    operator = WeightedMean(by="tokens")
    fused = operator({}, parts)["w0"]
    assert np.allclose(fused, np.average(stacked(parts, "w0"), axis=0, weights=[2, 1, 5]), atol=1e-6)
    assert operator.shares(parts) == [0.25, 0.125, 0.625]


def test_a_contribution_that_cannot_be_weighed_is_rejected():
    _, (part, *_) = draw(1)
    assert WeightedMean().rejection_reason(part) is None
    assert "does not report 'examples'" in WeightedMean(by="examples").rejection_reason(part)
    assert "num-examples = -3, which is not a valid weight" in WeightedMean().rejection_reason(
        dataclasses.replace(part, metrics={"num-examples": -3})
    )


@given(st.lists(st.floats(1e-3, 1e12), min_size=1, max_size=9), st.floats(1, 1e12))
def test_a_false_number_gives_no_more_than_five_times_the_lower_median(honest, claim):
    limited = limit_to_median([*honest, claim])
    middle = sorted([*honest, claim])[len(honest) // 2]
    assert limited == [min(weight, 5 * middle) for weight in [*honest, claim]]


def test_numbers_within_five_times_the_lower_median_count_as_they_are():
    _, parts = draw(3)
    numbers = [30, 10, 50]
    parts = [dataclasses.replace(part, metrics={"num-examples": n}) for part, n in zip(parts, numbers, strict=True)]
    assert WeightedMean().limit_weights(parts) == parts


def test_a_capped_weight_counts():
    base, parts = draw(2)
    parts[1] = dataclasses.replace(parts[1], weight=0.25)
    expected = np.average(stacked(parts, "w0"), axis=0, weights=[1, 0.25])
    assert np.allclose(Mean()(base, parts)["w0"], expected, atol=1e-6)
    assert np.allclose(Dare(drop_rate=0)(base, parts)["w0"], expected, atol=1e-6)


def test_task_arithmetic_is_the_formula():
    base, parts = draw(4)
    fused = TaskArithmetic(scale=0.3)(base, parts)
    for name, array in base.items():
        assert np.allclose(fused[name], array + 0.3 * (stacked(parts, name) - array).sum(axis=0), atol=1e-6)


def test_dare_drops_by_seed_round_and_name_and_is_the_mean_in_expectation():
    base, parts = draw(3, shapes=((200, 200),))
    one = Dare(drop_rate=0.9, seed=1)(base, parts)["w0"]
    assert np.array_equal(one, Dare(drop_rate=0.9, seed=1)(base, parts)["w0"])
    later = [dataclasses.replace(part, round=2) for part in parts]
    assert not np.array_equal(one, Dare(drop_rate=0.9, seed=1)(base, later)["w0"])
    assert not np.array_equal(one, Dare(drop_rate=0.9, seed=2)(base, parts)["w0"])
    untouched = np.mean(one == base["w0"])
    assert abs(untouched - 0.9**3) < 0.02
    many = np.mean([Dare(drop_rate=0.5, seed=s)(base, parts)["w0"] for s in range(200)], axis=0)
    assert np.abs(many - Mean()(base, parts)["w0"]).mean() < 0.01


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_dtypes_and_other_kinds_of_arrays_stay(dtype):
    base, parts = draw(3, dtype=dtype)
    base["count"] = np.array(3, np.int64)
    for number, part in enumerate(parts):
        part.encoder["count"] = np.array(10 + 3 * number, np.int64)
    fused = fuse(TaskArithmetic(), base, parts)
    assert list(fused) == list(base)
    assert {name: a.dtype for name, a in fused.items()} == {name: a.dtype for name, a in base.items()}
    assert {name: a.shape for name, a in fused.items()} == {name: a.shape for name, a in base.items()}
    assert fused["count"] == 13
    parts[0].encoder["count"] = np.array(2**63 - 1, np.int64)  # nobody moves it far
    assert fuse(Mean(), base, parts)["count"] == 16


def test_a_result_that_is_not_finite_is_no_result():
    base = {"w": np.zeros(3, np.float16)}
    parts = [Contribution(f"c{i}", {"w": np.full(3, 60_000, np.float16)}) for i in range(9)]
    with pytest.raises(FusionError, match="fused array 'w' has values that are not finite .fusion task-arithmetic"):
        fuse(TaskArithmetic(scale=1.0), base, parts)
    assert fuse(Mean(), base, parts)["w"][0] == 60_000


def test_nothing_or_strangers_cannot_be_fused():
    with pytest.raises(FusionError, match="no contribution"):
        Mean()({}, [])
    with pytest.raises(FusionError, match="no contribution"):
        Dare()({"w": np.zeros(1)}, [])
    with pytest.raises(FusionError, match="different array names"):
        Mean()({}, [Contribution("a", {"a": np.ones(1)}), Contribution("b", {"b": np.ones(1)})])
