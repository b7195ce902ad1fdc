"""A strategy with a ledger in a project of one's own, logged to TensorBoard while it runs."""

import numpy as np
import pytest
from fake_grid import SHAPE, FakeGrid, diverging_node, node, set_task_identity
from tracked_runs import read_tensorboard

from coldfusion_fl.config.settings import TrackingSettings
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.strategies import ColDFusion
from coldfusion_fl.strategies.nodes.array_records import move_to_record
from coldfusion_fl.tracking.track import track


def run(folder, rounds):
    set_task_identity()
    ledger = Ledger.open(folder, {"lr": 0.1})
    strategy = ColDFusion(contributor_names="query", contributors_per_round=3, max_rejections=0, ledger=ledger)
    grid = FakeGrid({5: node("a"), 6: node("b/c", value=3.0), 7: diverging_node("bad")})
    with track(ledger, TrackingSettings(to=("tensorboard",))):
        strategy.start(grid, move_to_record({"w": np.zeros(SHAPE, np.float32)}), num_rounds=rounds, timeout=30)
    return ledger


def test_a_run_that_resumes_is_logged_as_one(tmp_path):
    for rounds in (1, 3):
        ledger = run(tmp_path / "run", rounds)
    metrics, settings, _ = read_tensorboard(ledger.folder / "tracking", ledger)
    assert settings == {"lr": "0.1"}
    # The base moves by the mean of 1 and 3 in each round, in each of its 6 values.
    assert metrics["round/update-norm"] == [(number, pytest.approx(2 * 6**0.5)) for number in (1, 2, 3)]
    assert metrics["contributor/b_c-b9e2beb9/norm"] == [(number, pytest.approx(3 * 6**0.5)) for number in (1, 2, 3)]
    assert metrics["contributor/bad/rejected"] == [(number, 1) for number in (1, 2, 3)]
    assert metrics["mean/frozen/all"] == [(number, 2.0 * number) for number in (0, 1, 2, 3)]
    received = ledger.record(1).contributions["a"].bytes
    assert 6 * 4 < received < 6 * 4 + 200  # the numbers and numpy's header
    assert metrics["round/bytes"] == [(number, 2 * received) for number in (1, 2, 3)]
