"""The mean of clipped updates with noise."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfusion_fl.aggregation.pipeline import Pipeline
from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.fusion import Contribution, Mean, PrivateMean, fuse

NONE = 1e-30  # a noise that float32 does not show
BASE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(3, np.float32)}


def moved(name, by):
    return Contribution(name, {key: (array + np.float32(by)).astype(np.float32) for key, array in BASE.items()})


def update(fused):
    return {name: fused[name].astype(np.float64) - BASE[name] for name in BASE}


def norm(arrays):
    return math.sqrt(sum(float((array**2).sum()) for array in arrays.values()))


def test_what_is_short_enough_is_averaged_as_ever():
    parts = [moved("a", 0.5), moved("b", -0.25)]
    private, plain = fuse(PrivateMean(clip=100, noise=NONE), BASE, parts), fuse(Mean(), BASE, parts)
    for name in BASE:
        assert private[name] == pytest.approx(plain[name], abs=1e-6)
        assert private[name].dtype == np.float32


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=5), st.floats(0.01, 100))
def test_nobody_moves_the_sum_by_more_than_the_clip(moves, clip):
    parts = [moved(str(i), by) for i, by in enumerate(moves)]
    fused = fuse(PrivateMean(clip=clip, noise=NONE), BASE, parts)
    assert norm(update(fused)) <= clip * 1.001 + 1e-4
    one_more = fuse(PrivateMean(clip=clip, noise=NONE), BASE, [*parts, moved("x", 1e4)])
    n = len(parts)
    change = {name: update(one_more)[name] * (n + 1) - update(fused)[name] * n for name in BASE}
    assert norm(change) <= clip * 1.001 + 1e-3 * (n + 1)


def test_the_noise_is_that_of_the_mechanism_and_never_the_same():
    base = {"w": np.zeros(200_000, np.float32)}
    parts = [Contribution(name, base) for name in "abcd"]
    operator = PrivateMean(clip=0.5, noise=3.0)
    one, other = (fuse(operator, base, parts)["w"] for _ in range(2))
    assert one.std() == pytest.approx(3.0 * 0.5 / 4, rel=0.02)
    assert abs(one.mean()) < 0.01
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.02


@pytest.mark.parametrize("screening", ["size", "direction, size"])
def test_screening_contradicts_privacy(screening):
    """Which contributions a rule rejects depends on all of them, so the fused encoder would show it."""
    pipeline = Pipeline.parse(screening, "private-mean(clip=1, noise=1)", "plain")
    with pytest.raises(SettingsError, match="private-mean") as error:
        pipeline.check(8, 2, has_score_function=False, has_rollback=False)
    assert error.value.code == ErrorCode.SETTINGS_CONFLICT
    Pipeline.parse("", "private-mean", "plain").check(8, 2, has_score_function=False, has_rollback=False)
