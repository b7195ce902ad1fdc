"""A disk that is really full: a small file system of its own, where we may mount one."""

import subprocess

import numpy as np
import pytest
from fake_grid import FakeGrid, node
from flwr.app import Array, ArrayRecord
from flwr.supercore.task_identity import TaskIdentity

from coldfusion_fl.errors import RunFolderError
from coldfusion_fl.run.ledger import Ledger
from coldfusion_fl.strategies import ColDFusion

ROUNDS = 8
BASE = np.zeros(1 << 18, np.float32)  # 1 MiB


def start(ledger, monkeypatch):
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    strategy = ColDFusion(contributors_per_round=2, server_optimizer="heavy-ball", ledger=ledger)
    grid = FakeGrid({1: node("a", 1), 2: node("b", 2)})
    strategy.start(grid, ArrayRecord({"w": Array(BASE)}), num_rounds=ROUNDS, timeout=5)


def test_a_full_disk_stops_the_run_with_its_rounds_intact_and_it_goes_on(small_disk, tmp_path, monkeypatch):
    disk = small_disk("6m")
    with pytest.raises(RunFolderError, match=r"the disk is full\. Free some space\. What was written before is intact"):
        start(Ledger.open(disk / "run"), monkeypatch)
    there = Ledger(disk / "run").rounds()
    assert 0 in there
    assert ROUNDS not in there
    for number in there:
        Ledger(disk / "run").verify(number)
    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    start(Ledger.open(disk / "run"), monkeypatch)
    start(Ledger.open(tmp_path / "whole"), monkeypatch)
    for number in range(ROUNDS + 1):
        one, other = (Ledger(folder).load_base(number)["w"] for folder in (disk / "run", tmp_path / "whole"))
        assert one.tobytes() == other.tobytes()
