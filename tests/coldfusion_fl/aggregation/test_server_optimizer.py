import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAdam, FedAvgM, FedYogi
from flwr.supercore.task_identity import TaskIdentity
from hypothesis import given
from hypothesis import strategies as st

from coldfusion_fl.aggregation.server_optimizer import (
    SERVER_OPTIMIZERS,
    Adam,
    HeavyBall,
    LearningRate,
    Nesterov,
    Plain,
    Yogi,
    blend,
    moving_average,
)
from coldfusion_fl.config.components import parse_component

ROUNDS = 5


def fusions(rounds=ROUNDS, seed=0):
    """A base, and for each round a function that makes the fused encoder of the base there is."""
    rng = np.random.default_rng(seed)
    base = {"w": rng.normal(size=(3, 4)).astype(np.float32), "b": np.asarray(rng.normal()).astype(np.float32)}
    deltas = [{n: (0.01 * rng.normal(size=a.shape)).astype(np.float32) for n, a in base.items()} for _ in range(rounds)]
    return base, [lambda current, d=delta: {n: (current[n] + d[n]).astype(np.float32) for n in d} for delta in deltas]


def run(server_optimizer, base, rounds):
    state, bases = {}, []
    for fused in rounds:
        base, state = server_optimizer(base, fused(base), state)
        bases.append(base)
    return bases, state


@pytest.fixture
def flowers(monkeypatch):
    """Runs a strategy of Flower's on the same fused encoders."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)

    class Grid:
        def get_node_ids(self):
            return [1, 2]

    def run_theirs(strategy, base, rounds):
        arrays = ArrayRecord({name: Array(array) for name, array in base.items()})
        bases = []
        for number, fused in enumerate(rounds, start=1):
            list(strategy.configure_train(number, arrays, ConfigRecord(), Grid()))
            current = {name: array.numpy() for name, array in arrays.items()}
            content = RecordDict(
                {
                    "arrays": ArrayRecord({n: Array(np.asarray(a)) for n, a in fused(current).items()}),
                    "metrics": MetricRecord({"num-examples": 1}),
                }
            )
            replies = [Message(content, dst_node_id=node, message_type="train") for node in (1, 2)]
            arrays, _ = strategy.aggregate_train(number, replies)
            bases.append({name: array.numpy() for name, array in arrays.items()})
        return bases

    return run_theirs


def agree(ours, theirs):
    assert len(ours) == len(theirs) == ROUNDS
    for one, other in zip(ours, theirs, strict=True):
        assert all(np.allclose(one[name], other[name], atol=1e-5, rtol=0) for name in one)


def test_heavy_ball_agrees_with_flowers_fedavgm(flowers):
    base, rounds = fusions()
    theirs = flowers(FedAvgM(server_learning_rate=0.5, server_momentum=0.8), base, rounds)
    agree(run(HeavyBall(learning_rate=0.5, momentum=0.8), base, rounds)[0], theirs)


def test_yogi_agrees_with_flowers_fedyogi(flowers):
    base, rounds = fusions()
    theirs = flowers(FedYogi(eta=0.01, beta_1=0.9, beta_2=0.99, tau=1e-3), base, rounds)
    agree(run(Yogi(learning_rate=0.01), base, rounds)[0], theirs)


def test_adam_agrees_with_flowers_fedadam_but_for_its_bias_correction(flowers):
    # Flower multiplies FedAdam's learning rate by Kingma and Ba's correction; algorithm 2 of the paper does not.
    base, rounds = fusions()
    beta_1, beta_2, state, ours = 0.9, 0.99, {}, []
    current = base
    for number, fused in enumerate(rounds, start=1):
        rate = 0.01 * np.sqrt(1 - beta_2 ** (number + 1)) / (1 - beta_1 ** (number + 1))
        server_optimizer = Adam(learning_rate=float(rate), beta_1=beta_1, beta_2=beta_2)
        current, state = server_optimizer(current, fused(current), state)
        ours.append(current)
    agree(ours, flowers(FedAdam(eta=0.01, beta_1=beta_1, beta_2=beta_2, tau=1e-3), base, rounds))


@pytest.mark.parametrize(
    ("server_optimizer", "options"),
    [
        (Nesterov(learning_rate=0.7, momentum=0.9), {"lr": 0.7, "momentum": 0.9, "nesterov": True}),
        (HeavyBall(learning_rate=0.7, momentum=0.9), {"lr": 0.7, "momentum": 0.9}),
        (LearningRate(learning_rate=0.3), {"lr": 0.3}),
    ],
)
def test_momentum_agrees_with_torch(server_optimizer, options):
    base, rounds = fusions()
    weights = {name: torch.nn.Parameter(torch.from_numpy(np.array(array))) for name, array in base.items()}
    optimizer = torch.optim.SGD(weights.values(), **options)
    theirs = []
    for fused in rounds:
        current = {name: weight.detach().numpy().copy() for name, weight in weights.items()}
        for name, weight in weights.items():
            weight.grad = torch.from_numpy(np.asarray(current[name] - fused(current)[name]))
        optimizer.step()
        theirs.append({name: weight.detach().numpy().copy() for name, weight in weights.items()})
    agree(run(server_optimizer, base, rounds)[0], theirs)


def test_the_plain_step_is_the_fused_encoder_to_the_byte():
    base, (fused, *_) = fusions()
    following, state = Plain()(base, fused(base), {})
    assert state == {}
    assert all(following[name].tobytes() == fused(base)[name].tobytes() for name in base)


@pytest.mark.parametrize("name", SERVER_OPTIMIZERS)
def test_a_step_goes_on_from_its_state(name):
    server_optimizer = parse_component(name, SERVER_OPTIMIZERS, "server-optimizer")
    base, rounds = fusions()
    bases, state = run(server_optimizer, base, rounds)
    half, kept = run(server_optimizer, base, rounds[:3])
    again = half[-1]
    for fused in rounds[3:]:
        again, kept = server_optimizer(again, fused(again), kept)
    assert all(again[n].tobytes() == bases[-1][n].tobytes() for n in base)
    assert {n: a.tobytes() for n, a in kept.items()} == {n: a.tobytes() for n, a in state.items()}
    sizes = {"recent-sizes"} if isinstance(server_optimizer, Adam) else set()
    assert set(state) == {f"{kind}/{n}" for kind in server_optimizer.state_kinds for n in base} | sizes


def sizes_of_steps(server_optimizer, deltas):
    base, state, sizes = {"w": np.zeros(deltas[0].shape, np.float32)}, {}, []
    for delta in deltas:
        following, state = server_optimizer(base, {"w": base["w"] + delta}, state)
        sizes.append(np.abs(following["w"] - base["w"]))
        base = following
    return sizes


@pytest.mark.parametrize("server_optimizer", [Adam(), Yogi()], ids=lambda one: one.name)
@pytest.mark.parametrize("bad", [[0], [0, 1], [3], [20], [20, 21]], ids=str)
@pytest.mark.parametrize("elements", [slice(None), slice(1)], ids=["all elements", "one element"])
def test_after_a_bad_round_steps_have_their_usual_size_within_three_rounds(server_optimizer, bad, elements):
    rng = np.random.default_rng(0)
    honest = [(0.01 + 0.005 * rng.normal(size=400)).astype(np.float32) for _ in range(30)]
    hit = [delta.copy() for delta in honest]
    for number in bad:
        hit[number][elements] += 1e6
    expected, found = sizes_of_steps(server_optimizer, honest), sizes_of_steps(server_optimizer, hit)
    for number in range(bad[-1] + 3, 30):
        assert found[number].mean() == pytest.approx(expected[number].mean(), rel=0.6), number
        assert found[number][0] > 0.25 * expected[number][0], number


@given(st.sampled_from(sorted(SERVER_OPTIMIZERS)), st.sampled_from([np.float16, np.float32, np.float64]))
def test_dtypes_stay_and_integers_are_taken_as_fused(name, dtype):
    base = {"w": np.ones(3, dtype), "count": np.array(1)}
    fused = {"w": np.full(3, 1.5, dtype), "count": np.array(4)}
    following, _ = parse_component(name, SERVER_OPTIMIZERS, "server-optimizer")(base, fused, {})
    assert following["w"].dtype == dtype
    assert following["count"] == 4
    assert (following["w"] > 1).all()


def test_the_moving_average():
    average = moving_average({"w": np.float32([0]), "n": np.array(1)}, {"w": np.float32([1]), "n": np.array(2)}, 0.9)
    assert np.allclose(average["w"], 0.1)
    assert average["w"].dtype == np.float32
    assert average["n"] == 2


@given(st.floats(0.01, 1.0))
def test_a_blend_lies_between_the_first_base_and_what_came_of_it(share):
    first = {"a": np.float32([1, -2]), "count": np.array([1])}
    last = {"a": np.float32([3, 4]), "count": np.array([2])}
    made = blend(first, last, share)
    np.testing.assert_allclose(made["a"], first["a"] + share * (last["a"] - first["a"]), rtol=1e-5, atol=1e-6)
    assert made["a"].dtype == np.float32
    assert made["count"] == 2


def test_a_whole_share_is_what_came_of_it_to_the_bit():
    last = {"a": np.float32([0.1, 0.3])}
    assert blend({"a": np.float32([7, 7])}, last, 1.0)["a"].tobytes() == last["a"].tobytes()
