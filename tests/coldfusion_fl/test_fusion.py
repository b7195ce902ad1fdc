import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from coldfusion_fl.errors import FusionError
from coldfusion_fl.fusion import mean

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)


def contributions(count):
    return array_shapes(min_dims=0, max_dims=3, max_side=4).flatmap(
        lambda shape: st.lists(arrays(np.float32, shape, elements=FLOATS), min_size=count, max_size=5)
    )


@given(contributions(1))
def test_the_mean_is_rounded_once(parts):
    fused = mean({"w": part} for part in parts)["w"]
    exact = np.mean(np.stack(parts).astype(np.longdouble), axis=0)
    assert fused.dtype == np.float32
    assert fused.shape == parts[0].shape
    # The sum of float64 itself may be off where large values cancel: by its own rounding, of the largest summand.
    slack = len(parts) * np.finfo(np.float64).eps * np.max(np.abs(np.stack(parts)), axis=0)
    assert np.all(np.abs(fused - exact) <= np.spacing(np.abs(fused)) / 2 + slack)


@given(contributions(1))
def test_equal_contributions_are_their_own_mean(parts):
    assert mean({"w": parts[0]} for _ in range(7))["w"].tobytes() == parts[0].tobytes()


@given(contributions(2))
def test_it_agrees_with_flowers_fedavg(parts):
    replies = [
        RecordDict({"a": ArrayRecord({"w": Array(part)}), "m": MetricRecord({"num-examples": 10})}) for part in parts
    ]
    theirs = aggregate_arrayrecords(replies, "num-examples")["w"].numpy()
    ours = mean({"w": part} for part in parts)["w"]
    scale = np.max(np.abs(np.stack(parts)), axis=0)
    assert np.all(np.abs(ours - theirs) <= 1e-5 * scale + 1e-30)


def test_the_contributions_are_taken_one_at_a_time_and_not_changed():
    parts = [np.full(3, value, np.float32) for value in (1, 2, 6)]
    assert mean({"w": part} for part in parts)["w"].tolist() == [3, 3, 3]
    assert [part[0] for part in parts] == [1, 2, 6]


def test_nothing_or_strangers_cannot_be_fused():
    with pytest.raises(FusionError, match="no contribution"):
        mean([])
    with pytest.raises(FusionError, match="different names"):
        mean([{"a": np.ones(1)}, {"b": np.ones(1)}])
