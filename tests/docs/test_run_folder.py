"""The page about run folders lists each file that a run writes; tests/engines compares it with a whole run, too."""

import numpy as np
import pytest
from documented_files import documented_files, undocumented
from fake_grid import FakeGrid, set_task_identity
from toy_run import SIZES, contributor

from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.strategies import ColDFusion
from coldfusion_fl.strategies.nodes.array_records import move_to_record


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of two rounds that keeps everything that a round can have, and the arrays of the last round alone."""
    set_task_identity()
    ledger = Ledger.create(tmp_path_factory.mktemp("runs") / "run", {"toy": True})
    kept = {"keep_last": 1, "ledger": ledger, "shared_keys": ", ".join(SIZES)}
    strategy = ColDFusion(contributors_per_round=2, server_optimizer="nesterov", ema=0.9, **kept)
    grid = FakeGrid({number: contributor(name) for number, name in enumerate(["a", "b"], start=100)})
    with ledger.lock(), ledger.track_state():
        sizes = {**SIZES, "head": (2,)}  # the head never changes
        arrays = move_to_record({key: np.zeros(shape, np.float32) for key, shape in sizes.items()})
        strategy.start(grid, arrays, num_rounds=2, timeout=30)
    return ledger.folder


def test_each_file_is_listed(folder):
    assert not undocumented(folder)


def test_each_listed_file_of_a_round_is_written(folder):
    _, listed = documented_files()
    assert {file.name for file in (folder / "rounds").glob("*/*")} == listed


def test_a_file_that_is_not_listed_is_found(folder):
    (folder / "rounds" / "002" / "new.json").touch()
    (folder / "new.json").touch()
    assert undocumented(folder) == ["new.json", "rounds/002/new.json"]
