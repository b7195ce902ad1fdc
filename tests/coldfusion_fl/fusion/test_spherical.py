import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from random_contributions import draw

from coldfusion_fl.errors import FusionError
from coldfusion_fl.fusion import Contribution, Karcher, Slerp


def far(count, seed=0, norm=1.0):
    """Contributions in random directions."""
    base, parts = draw(count, seed, spread=3.0, shapes=((6, 4),))
    for part in parts:
        part.encoder["w0"] *= np.float32(norm / np.linalg.norm(part.encoder["w0"]))
    return base, parts


@given(st.integers(0, 100), st.floats(0, 1))
def test_slerp_goes_along_the_great_circle(seed, t):
    base, (one, other) = far(2, seed)
    a, b = one.encoder["w0"].reshape(-1), other.encoder["w0"].reshape(-1)
    fused = Slerp(t=t)(base, [one, other])["w0"].reshape(-1)
    angle = np.arccos(np.clip(a @ b, -1, 1))
    assert abs(np.linalg.norm(fused) - 1) < 1e-5
    assert abs(np.arccos(np.clip(fused @ a, -1, 1)) - t * angle) < 1e-3


def test_slerp_of_parallel_or_empty_directions_is_a_straight_line():
    base = {"w": np.zeros(4, np.float32)}
    one, other = (Contribution(n, {"w": np.full(4, v, np.float32)}) for n, v in (("a", 1), ("b", 3)))
    assert np.allclose(Slerp(t=0.25)(base, [one, other])["w"], 1.5)
    nothing = dataclasses.replace(one, encoder=base)
    assert np.allclose(Slerp()(base, [nothing, nothing])["w"], 0)


@pytest.mark.parametrize("operator", [Slerp(), Karcher()])
def test_two_equal_arrays_stay_however_small(operator):
    base, (one, other) = far(2, norm=3e-8)
    other.encoder.update(one.encoder)
    assert np.allclose(operator(base, [one, other])["w0"], one.encoder["w0"], rtol=1e-5, atol=0)


def test_slerp_joins_two():
    base, parts = far(3)
    with pytest.raises(FusionError, match="joins two contributions, not 3. For more take 'karcher'"):
        Slerp()(base, parts)


@given(st.integers(0, 100))
def test_the_karcher_mean_of_two_is_slerps_middle(seed):
    base, parts = far(2, seed)
    assert np.allclose(Karcher(iterations=50)(base, parts)["w0"], Slerp()(base, parts)["w0"], atol=1e-5)


@given(st.integers(2, 6), st.integers(0, 50))
def test_the_karcher_mean_has_no_gradient_left(count, seed):
    base, parts = far(count, seed, norm=2.0)
    fused = Karcher(iterations=200)(base, parts)["w0"].reshape(-1).astype(float)
    assert abs(np.linalg.norm(fused) - 2) < 1e-4
    mean = fused / np.linalg.norm(fused)
    logs = []
    for part in parts:
        unit = part.encoder["w0"].reshape(-1).astype(float) / 2
        angle = np.arccos(np.clip(unit @ mean, -1, 1))
        logs.append(angle / max(np.sin(angle), 1e-12) * (unit - (unit @ mean) * mean))
    assert np.linalg.norm(np.mean(logs, axis=0)) < 1e-3


def test_the_karcher_mean_of_nothing_is_nothing():
    base = {"w": np.zeros(3, np.float32)}
    assert Karcher()(base, [Contribution("a", base), Contribution("b", base)])["w"].tolist() == [0, 0, 0]
