"""A disk that is really full: a small file system of its own, where we may mount one."""

import subprocess

import numpy as np
import pytest
from fake_grid import FakeGrid, node
from flwr.app import Array, ArrayRecord

from coldfusion_fl.errors import RunFolderError
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.strategies import ColDFusion

ROUNDS = 8
BASE = np.zeros(1 << 18, np.float32)  # 1 MiB


def run_rounds(ledger):
    strategy = ColDFusion(
        contributor_names="query", contributors_per_round=2, server_optimizer="heavy-ball", ledger=ledger
    )
    grid = FakeGrid({100: node("a", 1), 101: node("b", 2)})
    strategy.start(grid, ArrayRecord({"w": Array(BASE)}), num_rounds=ROUNDS, timeout=5)


def test_a_full_disk_stops_the_run_with_its_rounds_intact_and_it_goes_on(small_disk, tmp_path):
    disk = small_disk("6m")
    with pytest.raises(RunFolderError, match=r"the disk is full\. Free some space\. What was written before is intact"):
        run_rounds(Ledger.open(disk / "run"))
    there = Ledger(disk / "run").rounds()
    assert 0 in there
    assert ROUNDS not in there
    for number in there:
        Ledger(disk / "run").verify(number)
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    run_rounds(Ledger.open(disk / "run"))
    run_rounds(Ledger.open(tmp_path / "whole"))
    for number in range(ROUNDS + 1):
        one, other = (Ledger(folder).load_base(number)["w"] for folder in (disk / "run", tmp_path / "whole"))
        assert one.tobytes() == other.tobytes()
