import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from random_contributions import draw

from coldfusion_fl.fusion import Contribution, Karcher


def far(count, seed=0, norm=1.0):
    """Contributions in random directions."""
    base, parts = draw(count, seed, spread=3.0, shapes=((6, 4),))
    for part in parts:
        part.encoder["w0"] *= np.float32(norm / np.linalg.norm(part.encoder["w0"]))
    return base, parts


def test_two_equal_arrays_stay_however_small():
    base, (one, other) = far(2, norm=3e-8)
    other.encoder.update(one.encoder)
    assert np.allclose(Karcher()(base, [one, other])["w0"], one.encoder["w0"], rtol=1e-5, atol=0)


@given(st.integers(0, 100))
def test_the_mean_of_two_is_the_middle_of_the_great_circle(seed):
    base, parts = far(2, seed)
    a, b = (part.encoder["w0"].reshape(-1) for part in parts)
    fused = Karcher(iterations=50)(base, parts)["w0"].reshape(-1)
    assert abs(np.linalg.norm(fused) - 1) < 1e-5
    assert np.allclose(fused, (a + b) / np.linalg.norm(a + b), atol=1e-5)


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


def test_arrays_without_a_direction():
    base = {"w": np.zeros(4, np.float32)}
    one, other = (Contribution(n, {"w": np.full(4, v, np.float32)}) for n, v in (("a", 1), ("b", 3)))
    assert np.allclose(Karcher()(base, [one, other])["w"], 2)  # parallel ones: the plain mean
    assert Karcher()(base, [Contribution("a", base), Contribution("b", base)])["w"].tolist() == [0, 0, 0, 0]
