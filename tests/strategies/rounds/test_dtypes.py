"""Arrays of a project's own kinds: other precisions, running statistics, counters, and masks with infinite values."""

import warnings

import numpy as np
import pytest
from fake_grid import FakeGrid
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict

from coldfusion_fl.errors import SettingsError
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.strategies import ColDFusion

MASK = np.triu(np.full((3, 3), -np.inf, np.float32), 1)
FIRST = {
    "0.weight": np.ones((2, 2), np.float32),
    "1.running_var": np.full(2, 0.1, np.float32),
    "1.num_batches_tracked": np.array(4, np.int64),
    "2.mask": MASK,
    "2.scale": np.array(2.0, np.float32),  # 0-d
}


def record(arrays):
    return ArrayRecord({name: Array(np.asarray(array)) for name, array in arrays.items()})


def trainer(**changes):
    """A node that returns the base with these changes: functions of an array by name."""

    def answer(message):
        metrics = MetricRecord({"num-examples": 1})
        if message.metadata.message_type == "evaluate":
            return RecordDict({"metrics": metrics})
        arrays = {name: array.numpy() for name, array in message.content["arrays"].items()}
        named = {name.replace("_dot_", "."): change for name, change in changes.items()}
        arrays |= {name: change(arrays[name]) for name, change in named.items()}
        return RecordDict({"arrays": record(arrays), "metrics": metrics})

    return answer


def run(nodes, rounds=1, **arguments):
    strategy = ColDFusion(min_available_nodes=len(nodes), **arguments)
    grid = FakeGrid(dict(enumerate(nodes, start=100)))
    result = strategy.start(grid, record(FIRST), num_rounds=rounds, timeout=1)
    return {name: array.numpy() for name, array in result.arrays.items()}, strategy


def test_the_result_has_the_names_types_and_order_of_the_initial_arrays():
    found, _ = run([trainer(), trainer()])
    assert list(found) == list(FIRST)
    for name, array in FIRST.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert np.array_equal(found[name], array)


def test_another_precision_is_cast_with_one_warning(caplog):
    wide = trainer(**{"0_dot_weight": lambda a: a.astype(np.float64) + 1})
    found, _ = run([wide, wide], rounds=3)
    assert found["0.weight"].dtype == np.float32
    assert found["0.weight"][0, 0] == 4
    assert caplog.text.count("arrays of another precision (float64 to float32)") == 1


def test_a_value_that_the_base_precision_cannot_hold_is_rejected():
    huge = trainer(**{"0_dot_weight": lambda a: np.full(a.shape, 1e300)})
    _, strategy = run([trainer(), trainer(), huge])
    (rejection,) = strategy.round.record.rejected
    assert "not finite" in rejection.reason


@pytest.mark.parametrize("fusion", ["mean", "task-arithmetic(scale=5)", "ties", "median"])
def test_running_statistics_are_averaged_whatever_the_operator_and_the_optimizer(fusion):
    def towards(value):
        return trainer(**{"1_dot_running_var": lambda a: np.full(a.shape, value, np.float32)})

    found, _ = run([towards(0.01), towards(0.03)], 4, fusion=fusion, server_optimizer="heavy-ball(momentum=0.95)")
    assert found["1.running_var"] == pytest.approx([0.02, 0.02])


def test_counters_stay_integers():
    def counted(steps):
        return trainer(**{"1_dot_num_batches_tracked": lambda a: a + np.int64(steps)})

    found, _ = run([counted(3), counted(5)], server_optimizer="nesterov")
    assert found["1.num_batches_tracked"].dtype == np.int64
    assert found["1.num_batches_tracked"] == 7  # the lower median


def test_a_mask_with_infinite_values_stays_and_does_not_disturb_the_others(ledger):
    learns = trainer(**{"0_dot_weight": lambda a: a + 1})
    arguments = {"server_optimizer": "nesterov", "ema": 0.5, "screening": "size, direction", "ledger": ledger}
    found, strategy = run([learns, learns], 2, **arguments)
    assert np.array_equal(found["2.mask"], MASK)
    assert found["0.weight"][0, 0] > 2
    assert np.array_equal(strategy.result["2.mask"], MASK)
    assert np.array_equal(ledger.load_base(2)["2.mask"], MASK)
    again, _ = run([learns, learns], 3, **arguments | {"ledger": Ledger.reopen(ledger.folder)})
    assert np.array_equal(again["2.mask"], MASK)


def test_a_mask_that_changes_is_rejected():
    changed = trainer(**{"2_dot_mask": lambda a: np.where(np.isinf(a), np.float32(-np.inf), np.float32(1))})
    _, strategy = run([trainer(), trainer(), changed])
    (rejection,) = strategy.round.record.rejected
    assert "'2.mask' holds infinite values and differs" in rejection.reason


def test_not_a_number_is_no_initial_array():
    strategy = ColDFusion()
    with pytest.raises(SettingsError, match="NaN"):
        strategy.start(FakeGrid({100: trainer(), 101: trainer()}), record({"w": np.array([np.nan])}), timeout=1)


def test_a_score_function_may_write_to_what_it_gets():
    torch = pytest.importorskip("torch")

    def score(encoder):
        tensor = torch.from_numpy(encoder["0.weight"])
        tensor += 1
        assert np.isinf(encoder["2.mask"]).any()
        return float(tensor.sum())

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found, strategy = run([trainer(), trainer()], 2, score_fn=score, rollback=0.0, screening="greedy-soup")
        torch.from_numpy(strategy.result["0.weight"])
    assert found["0.weight"][0, 0] == 1
