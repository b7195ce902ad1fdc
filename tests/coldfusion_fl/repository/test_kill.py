"""`coldfusion fuse --run` is killed whenever a file is about to become durable, and the same command is repeated."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from coldfusion_fl.atomic_files import sha256
from coldfusion_fl.repository.checkpoint_round import fuse_into_run
from coldfusion_fl.repository.undo import undo_round
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.lineage import lineage


def _kill_at(number):
    """Kill this process before it makes a file durable for the `number`th time."""
    sync, done = os.fsync, []

    def count(descriptor):
        done.append(descriptor)
        if len(done) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)

    os.fsync = count


def _call(number, function, *given, **more):
    import torch

    torch.set_num_threads(1)
    _kill_at(number)
    function(*given, **more)


@pytest.fixture(scope="module")
def call():
    """Calls a function in a process of its own that is killed at a sync; returns whether it was."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["coldfusion_fl.repository.checkpoint_round", "coldfusion_fl.repository.undo"])

    def call(number, *given, **more):
        process = context.Process(target=_call, args=(number, *given), kwargs=more)
        process.start()
        process.join(120)
        assert process.exitcode in (0, -signal.SIGKILL)
        return process.exitcode != 0

    return call


def model_of(folder):
    return sha256(folder / "model" / "model.safetensors")


@pytest.mark.slow
def test_a_command_killed_at_any_sync_leaves_the_rounds_and_its_repetition_finishes(call, three, tiny_base, tmp_path):
    unbroken = tmp_path / "unbroken"
    fuse_into_run(unbroken, three[:2], base=str(tiny_base))
    expected = fuse_into_run(unbroken, three[2:]).record.base_sha256
    number, found = 1, set()
    while True:
        folder = tmp_path / f"run-{number}"
        fuse_into_run(folder, three[:2], base=str(tiny_base))
        before = model_of(folder)
        if not call(number, fuse_into_run, folder, three[2:]):
            break
        ledger = Ledger(folder)
        rounds = ledger.rounds()
        found.add(len(rounds))
        assert len(lineage(ledger, check=True)) in (2, 3)
        assert ledger.record(1).base_sha256 == Ledger(unbroken).record(1).base_sha256
        assert not (folder / "model").exists() or len(rounds) == 3 or model_of(folder) == before
        added = fuse_into_run(folder, three[2:])
        assert added.record.round == 2
        assert added.record.base_sha256 == expected
        assert model_of(folder) == model_of(unbroken)
        assert ledger.state.state == "finished"
        assert not [path for path in folder.rglob("*.partial") if Path(path).parent == folder]
        number += 3
    assert found == {2, 3}


@pytest.mark.slow
def test_a_new_run_and_an_undo_that_are_killed_are_finished_by_the_same_command(call, three, tiny_base, tmp_path):
    for number in (2, 6, 12, 20):
        folder = tmp_path / f"run-{number}"
        call(number, fuse_into_run, folder, three, base=str(tiny_base))
        fuse_into_run(folder, three, base=str(tiny_base))
        assert Ledger(folder).rounds() == [0, 1]
        assert Ledger(folder).state.state == "finished"
        model = model_of(folder)
        fuse_into_run(folder, three[:1])
        call(number, undo_round, folder, 2)
        undo_round(folder, 2)
        assert Ledger(folder).rounds() == [0, 1]
        assert model_of(folder) == model
        assert len(lineage(Ledger(folder), check=True)) == 2
