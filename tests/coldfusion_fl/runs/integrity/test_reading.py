"""A run folder is read while a process saves, prunes and undoes rounds in it."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from coldfusion_fl.engines.deployment.operations.prometheus import run_metrics
from coldfusion_fl.errors import RunFolderError
from coldfusion_fl.pages.run_page import run_page
from coldfusion_fl.runs import events
from coldfusion_fl.runs.integrity.reading import read_consistently
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.lineage import lineage
from coldfusion_fl.runs.records import ContributionRecord, RoundRecord
from coldfusion_fl.runs.status import run_status

READERS = {
    "status": run_status,
    "log": lineage,
    "check": lambda ledger: lineage(ledger, check=True),
    "report": run_page,
    "status --prometheus": lambda ledger: run_metrics(run_status(ledger), ledger),
}


def save(ledger, number):
    record = RoundRecord(round=number, fused=True, contributions={"a": ContributionRecord(norm=1, share=1)})
    ledger.emit(events.RoundStarted(round=number, sampled=["a"]))
    ledger.save_round({"w": np.zeros(3, np.float32)}, record)
    ledger.save_scores(number, {"a": {"frozen": 50.0, "metric": "accuracy", "head": "mean", "num-examples": 200}})
    ledger.emit(events.RoundFused(round=number, contributions=1, rejected=0))


def work(folder):
    """Save rounds, prune and undo them, make scores again, and write a result, until the process is killed."""
    ledger = Ledger(folder)
    with ledger.lock():
        while True:
            for number in range(len(ledger.rounds()), 5):
                save(ledger, number)
                ledger.keep_last(2)
            (ledger.round_folder(4) / "scores.json").write_text("{}")  # as a damaged disk may leave it
            ledger.remove_damaged_scores(4)
            with ledger.writing("model") as model:
                model.mkdir()
                (model / "config.json").write_text("{}")
            ledger.set_aside(4)


@pytest.fixture(scope="module")
def busy(tmp_path_factory):
    """The folder of a run that a process writes without a pause."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    ledger = Ledger.create(folder, {"rounds": 9, "tasks": {"seen": ["a"]}})
    save(ledger, 0)
    process = subprocess.Popen([sys.executable, __file__, str(folder)])
    while not (folder / "undone").exists():
        assert process.poll() is None
        time.sleep(0.05)
    yield folder
    assert process.poll() is None, "the writer must not fail because of its readers"
    process.kill()
    process.wait()


@pytest.mark.parametrize("name", READERS)
def test_a_reader_beside_a_writer_never_fails(busy, name):
    def undone():
        return len(list((busy / "undone").iterdir()))

    before, calls = undone(), 0
    while calls < 20 or undone() < before + 5:
        READERS[name](Ledger(busy))
        calls += 1


def test_what_is_wrong_without_a_writer_is_raised(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    ledger.save_round({"w": np.zeros(3, np.float32)}, RoundRecord(round=0))
    (ledger.round_folder(0) / "record.json").unlink()
    calls = []

    def read():
        calls.append(1)
        return ledger.records()

    with pytest.raises(RunFolderError, match=r"record\.json"):
        read_consistently(ledger, read)
    assert len(calls) == 2


@pytest.mark.parametrize("name", READERS)
def test_a_folder_that_does_not_exist_is_named(tmp_path, name):
    with pytest.raises(RunFolderError, match="not a run folder"):
        READERS[name](Ledger(tmp_path / "nowhere"))


def test_what_is_right_the_next_time_is_returned(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    answers = [RunFolderError("changing"), Path("x")]

    def read():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert read_consistently(ledger, read) == Path("x")


if __name__ == "__main__":  # the process that writes
    work(Path(sys.argv[1]))
