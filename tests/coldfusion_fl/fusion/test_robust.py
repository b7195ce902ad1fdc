import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedMedian, FedTrimmedAvg
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import strategies as st
from random_contributions import draw, stacked
from scipy.optimize import minimize

from coldfusion_fl.fusion import GeometricMedian, Median, TrimmedMean


@pytest.fixture
def flowers(monkeypatch):
    """Replies as Flower's own strategies take them."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)

    def replies(parts):
        for number, part in enumerate(parts):
            content = RecordDict(
                {
                    "arrays": ArrayRecord({name: Array(array) for name, array in part.encoder.items()}),
                    "metrics": MetricRecord({"num-examples": 1}),
                }
            )
            yield Message(content, dst_node_id=number, message_type="train")

    return replies


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_the_median_agrees_with_flowers_fedmedian(flowers, count):
    base, parts = draw(count)
    theirs, _ = FedMedian().aggregate_train(1, flowers(parts))
    ours = Median()(base, parts)
    assert all(np.allclose(ours[name], theirs[name].numpy(), atol=1e-5) for name in base)


@pytest.mark.parametrize(("count", "cut"), [(2, 0.2), (5, 0.2), (8, 0.25), (9, 0.45), (3, 0.0)])
def test_the_trimmed_mean_agrees_with_flowers_fedtrimmedavg(flowers, count, cut):
    base, parts = draw(count)
    theirs, _ = FedTrimmedAvg(beta=cut).aggregate_train(1, flowers(parts))
    ours = TrimmedMean(cut=cut)(base, parts)
    assert all(np.allclose(ours[name], theirs[name].numpy(), atol=1e-5) for name in base)


@pytest.mark.parametrize("operator", [Median(), TrimmedMean(cut=0.3), GeometricMedian()])
def test_a_minority_of_attacker_does_not_pull_far(operator):
    base, parts = draw(8)
    for part in parts[:2]:
        for name in part.encoder:
            part.encoder[name] = part.encoder[name] * np.float32(1000)
    fused = operator(base, parts)
    honest = stacked(parts[2:], "w0")
    assert np.abs(fused["w0"] - honest.mean(axis=0)).max() < 3 * 0.1


@pytest.mark.parametrize("factor", [1e3, 1e9, 1e15, 1e30])
@pytest.mark.parametrize("count", [3, 8])
def test_one_contribution_moves_the_geometric_median_no_further_however_far_it_lies(count, factor):
    base, parts = draw(count)
    honest = GeometricMedian()(base, parts[1:])
    for name, array in parts[0].encoder.items():
        parts[0].encoder[name] = base[name] + (array - base[name]) * np.float32(factor)
    fused = GeometricMedian()(base, parts)
    apart = max(np.abs(part.encoder["w0"] - honest["w0"]).max() for part in parts[1:])
    assert np.abs(fused["w0"] - honest["w0"]).max() < apart


@given(st.integers(3, 6), st.integers(0, 30))
def test_the_geometric_median_is_the_minimum(count, seed):
    base, parts = draw(count, seed, shapes=((3,), (2, 2)))
    fused = GeometricMedian(iterations=2000, tolerance=1e-12)(base, parts)
    points = np.stack([np.concatenate([a.reshape(-1) for a in p.encoder.values()]) for p in parts]).astype(float)

    def total(place):
        return np.linalg.norm(points - place, axis=1).sum()

    ours = np.concatenate([array.reshape(-1) for array in fused.values()])
    best = minimize(total, points.mean(axis=0), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-12})
    assert total(ours) <= best.fun + 1e-5 * best.fun


def test_the_geometric_median_of_a_majority_at_one_place_is_that_place():
    base, parts = draw(5)
    for part in parts[:3]:
        part.encoder.update(parts[0].encoder)
    fused = GeometricMedian(iterations=1000, tolerance=1e-10)(base, parts)
    assert np.allclose(fused["w0"], parts[0].encoder["w0"], atol=1e-4)
