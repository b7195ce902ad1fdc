"""How a run stands, by its folder alone."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from coldfusion_fl.errors import RunFolderError
from coldfusion_fl.runs import events
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.records import ContributionRecord, RejectionRecord, RoundRecord
from coldfusion_fl.runs.status import format_ago, run_status


@pytest.fixture
def ledger(tmp_path):
    made = Ledger.create(tmp_path / "run", {"rounds": 3})
    made.emit(events.RunStarted())
    return made


def members_of(ledger):
    return {member.name: member for member in run_status(ledger).members}


def save_round(ledger, number, fused=(), rejected=()):
    contributions = {name: ContributionRecord(norm=1, share=1 / len(fused)) for name in fused}
    rejections = [RejectionRecord(name=name, reason="NaN", counts_toward_exclusion=True) for name in rejected]
    record = RoundRecord(round=number, fused=bool(fused), contributions=contributions, rejected=rejections)
    ledger.save_round({"w": np.zeros(3, np.float32)}, record)


def test_a_round_from_its_begin_to_its_end(ledger):
    with ledger.lock():
        assert run_status(Ledger(ledger.folder)).phase == "waiting for members"
        ledger.emit(events.NodesConnected(seen=["a", "b", "c"], unseen=["u"], rounds=3, time=900.0))
        save_round(ledger, 0)
        ledger.emit(events.RoundStarted(round=1, sampled=["a", "b"], missing=["c"]))
        ledger.emit(events.TrainingStep(round=1, name="a", step=1, steps=9, loss=1.0))
        ledger.emit(events.ContributionRejected(round=1, name="b", reason="it holds values that are not finite"))
        status = run_status(Ledger(ledger.folder))
        assert (status.state, status.round, status.rounds) == ("running", 0, 3)
        assert status.phase == "round 1: contributors train"
        members = {member.name: member for member in status.members}
        assert [members[name].activity for name in "abcu"] == ["training", "rejected", "missing", "idle"]
        assert members["b"].reason == "it holds values that are not finite"
        assert [members[name].seen for name in "abcu"] == [True, True, True, False]
        assert members["a"].last_heard > 900
        assert [members[name].last_heard for name in "bcu"] == [pytest.approx(time.time(), abs=60), 900, 900]
        ledger.emit(events.ContributionReceived(round=1, name="a"))
        ledger.emit(events.RoundFused(round=1, contributions=1, rejected=1))
        save_round(ledger, 1, fused=["a"], rejected=["b"])
        ledger.emit(events.EvaluationStarted(round=1, names=["a", "u"]))
        ledger.emit(events.ScoreReceived(round=1, name="u", scores={"frozen": 50.0}))
        status = run_status(Ledger(ledger.folder))
        members = {member.name: member for member in status.members}
        assert [members[name].activity for name in "abcu"] == ["evaluating", "idle", "idle", "answered"]
        assert (members["a"].fused, members["a"].rejected, members["b"].rejected) == (1, 0, 1)
        assert status.bases == [0, 1]
        assert status.bytes > 0 and status.free_bytes > 0


def test_a_training_that_failed_is_told_when_its_round_is_over_too(ledger):
    save_round(ledger, 0)
    ledger.emit(events.RoundStarted(round=1, sampled=["a", "b"]))
    ledger.emit(events.ContributionRejected(round=1, name="a", reason="its training failed: no rows", received=True))
    ledger.emit(events.ContributionRejected(round=1, name="b", reason="it did not answer within 9 s", received=False))
    save_round(ledger, 1, rejected=["a"])
    ledger.emit(events.EvaluationStarted(round=1, names=["a"]))
    members = members_of(ledger)
    assert (members["a"].rejected, members["a"].reason) == (1, "its training failed: no rows")
    assert members["a"].last_heard and members["b"].last_heard is None
    ledger.emit(events.RoundStarted(round=2, sampled=["a"]))
    ledger.emit(events.ContributionReceived(round=2, name="a"))
    assert members_of(ledger)["a"].reason == ""


def test_an_excluded_member_stays_excluded_with_its_reason(ledger):
    with ledger.lock():
        ledger.emit(events.ContributorExcluded(name="c", reason="it has another base"))
        ledger.emit(events.WaitingForNodes(connected=1, missing=["b"], excluded=["c"]))
        assert run_status(Ledger(ledger.folder)).phase == "waiting for b, c (excluded)"
        ledger.emit(events.NodesConnected(seen=["a", "b"], excluded=["c"], rounds=3))
        for later in (
            events.RoundStarted(round=1, sampled=["a", "b"], excluded=["c"]),
            events.EvaluationStarted(round=1, names=["a", "b"]),
        ):
            ledger.emit(later)
            member = members_of(Ledger(ledger.folder))["c"]
            assert (member.activity, member.reason) == ("excluded", "it has another base")
        ledger.emit(events.RoundStarted(round=2, sampled=["a", "b", "c"]))
        assert members_of(Ledger(ledger.folder))["c"].activity == "training"


def test_a_run_without_a_process_was_lost(ledger):
    ledger.emit(events.RoundStarted(round=1, sampled=["a"]))
    status = run_status(ledger)
    assert (status.state, status.phase, status.members[0].activity) == ("lost", "ended", "idle")


def test_a_run_that_was_lost_and_went_on_says_so(ledger):
    with ledger.lock():
        ledger.emit(events.RoundStarted(round=1, sampled=["a"]))
        ledger.emit(events.RunLost(round=0, reason="no server"))
        status = run_status(Ledger(ledger.folder))
    assert (status.lost, status.phase, status.members[0].activity) == (1, "waiting for members", "idle")


def test_a_failed_run_says_why(ledger):
    ledger.state_file.failed("the disk is full")
    status = run_status(ledger)
    assert (status.state, status.reason) == ("failed", "the disk is full")


def test_files_that_are_removed_meanwhile_are_left_out(ledger, monkeypatch):
    size = run_status(ledger).bytes
    removed, scandir = ledger.folder / ".001.9.partial", os.scandir
    removed.mkdir()
    (ledger.folder / "gone").symlink_to("nowhere")

    def remove_and_scan(path):
        if Path(path) == removed:
            removed.rmdir()
        return scandir(path)

    monkeypatch.setattr(os, "scandir", remove_and_scan)
    assert run_status(ledger).bytes == size
    assert not removed.exists()


def test_an_excluded_member_was_heard_of_only_if_it_answered(ledger):
    ledger.emit(events.ContributorExcluded(name="answered", reason="another base", received=True, time=800.0))
    ledger.emit(events.ContributorExcluded(name="silent", reason="it is connected, but did not answer"))
    ledger.emit(events.NodesConnected(seen=["a"], excluded=["answered", "silent"], rounds=3, time=900.0))
    members = members_of(ledger)
    assert [members[name].last_heard for name in ("a", "answered", "silent")] == [900, 800, None]


def test_it_is_read_by_machines_too(ledger):
    save_round(ledger, 0)
    ledger.emit(events.RoundStarted(round=1, sampled=["a"]))
    table = json.loads(json.dumps(run_status(ledger).as_json()))
    assert table["free-bytes"] > 0
    assert table["members"][0]["last-heard"] is None


def test_a_folder_that_holds_no_run_is_said(tmp_path):
    with pytest.raises(RunFolderError):
        run_status(Ledger(tmp_path))


def test_looking_does_not_shut_a_run_out(ledger):
    """A run that begins while somebody looks whether one is there waits for a moment."""
    import threading

    other = Ledger(ledger.folder)
    began = threading.Event()

    def look():
        with other.lock():
            began.set()
            time.sleep(0.1)

    looking = threading.Thread(target=look)
    looking.start()
    began.wait()
    with ledger.lock():
        pass
    looking.join()


@pytest.mark.parametrize(
    ("then", "words"),
    [(None, "never"), (99.0, "1 s ago"), (40.0, "1 min ago"), (-7200.0, "2 h ago"), (-200_000.0, "2 d ago")],
)
def test_how_long_ago(then, words):
    assert format_ago(then, now=100.0) == words
