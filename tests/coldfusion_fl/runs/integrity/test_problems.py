"""What does not belong into a run folder is named, and nothing fails because of it."""

import json
import shutil

import numpy as np
import pytest

from coldfusion_fl.errors import ErrorCode, RunFolderError
from coldfusion_fl.pages.run_page import run_page
from coldfusion_fl.runs.events import RoundStarted
from coldfusion_fl.runs.integrity.problems import find_problems
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.lineage import lineage
from coldfusion_fl.runs.records import RoundRecord
from coldfusion_fl.runs.status import run_status

BASE = {"w": np.zeros(3, np.float32)}


@pytest.fixture
def ledger(tmp_path):
    made = Ledger.create(tmp_path / "run", {"rounds": 3})
    for number in range(2):
        made.save_round(BASE, RoundRecord(round=number))
    made.emit(RoundStarted(round=1, sampled=["a"]))
    return made


def make_strays(rounds):
    """Files and folders that are no rounds; one has the number of a round, and one has control characters."""
    for name in ("005", "notes.txt", "1²", "000.bak"):
        (rounds / name).write_text("x")
    for name in ("004", "1", "old", "\x1b[31mred"):
        (rounds / name).mkdir()
    (rounds / "003").symlink_to("nowhere")
    (rounds / "006").symlink_to(rounds / "000")  # a round, but a link may lead anywhere
    return {"005", "notes.txt", "1²", "000.bak", "004", "1", "old", "red", "003", "006"}


def test_a_whole_folder_has_no_problems(ledger):
    (ledger.folder / "rounds" / ".002.77.partial").mkdir()  # of the round that is written now
    assert find_problems(ledger) == []


def test_strays_in_the_folder_of_the_rounds_are_named(ledger):
    strays = make_strays(ledger.folder / "rounds")
    said = find_problems(ledger)
    assert len(said) == len(strays)
    assert all(any(f"{name}: this is not the folder of a round" in line for line in said) for name in strays)
    assert "\x1b" not in "".join(said)
    assert ledger.rounds() == [0, 1]


def test_a_round_that_was_removed_is_named_until_it_is_made_again(ledger):
    shutil.rmtree(ledger.round_folder(1))
    [said] = find_problems(ledger)
    assert "rounds/001" in said
    again = Ledger.resume(ledger.folder, {"rounds": 3})
    again.save_round(BASE, RoundRecord(round=1))
    assert not find_problems(again)


def test_status_log_page_and_resume_work_beside_strays(ledger):
    strays = make_strays(ledger.folder / "rounds")
    assert len(run_status(ledger).warnings) == len(strays)
    assert [base.record.round for base in lineage(ledger, check=True)] == [0, 1]
    assert "<html" in run_page(ledger)
    again = Ledger.resume(ledger.folder, {"rounds": 3})
    again.save_round(BASE, RoundRecord(round=2))
    assert again.rounds() == [0, 1, 2]
    assert ledger.recovery_advice(2) == f"Remove 002 in {ledger.folder / 'rounds'} to resume from round 1."


@pytest.mark.parametrize("make", ["touch", "mkdir"])
def test_what_is_where_the_next_round_will_be_is_named_before_a_run_resumes(ledger, make):
    getattr(ledger.round_folder(2), make)()
    with pytest.raises(RunFolderError, match="002: round 2 will be written here") as error:
        Ledger.resume(ledger.folder, {"rounds": 3})
    assert error.value.code == ErrorCode.RUN_FOLDER_DAMAGED
    assert run_status(ledger).round == 1


def test_an_empty_folder_between_rounds_is_a_missing_round(ledger):
    for file in ledger.round_folder(0).iterdir():
        file.unlink()
    with pytest.raises(RunFolderError, match="000: this round is missing"):
        lineage(ledger)


@pytest.mark.parametrize("name", ["rounds", "rounds/001/record.json", "rounds/001/SHA256SUMS", "progress.jsonl"])
def test_a_file_in_place_of_a_folder_and_the_reverse_are_named(ledger, name):
    path = ledger.folder / name
    path.rename(ledger.folder / "away")
    path.mkdir() if name != "rounds" else path.touch()
    for read in (run_status, lambda ledger: lineage(ledger, check=True), lambda ledger: Ledger.reopen(ledger.folder)):
        if name == "progress.jsonl" and read is not run_status:
            continue  # a lineage has no events
        if name == "rounds/001/SHA256SUMS" and read is run_status:
            continue  # and a status no hashes
        with pytest.raises(RunFolderError, match=name):
            read(ledger)


def test_lost_lines_of_the_events_are_named(ledger):
    file = ledger.folder / "progress.jsonl"
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"kind": "half' + whole)
    status = run_status(ledger)
    assert len(status.warnings) == 1 and "line 2" in status.warnings[0]
    assert "warnings" in json.loads(json.dumps(status.as_json()))
    file.write_bytes(whole + b'{"kind": "half')
    with ledger.lock():
        assert find_problems(Ledger(ledger.folder)) == []  # the line may be being written
    assert "its last line is not complete" in find_problems(ledger)[0]
    Ledger.resume(ledger.folder, {"rounds": 3}).emit(RoundStarted(round=2, sampled=["a"]))
    assert [event.round for event in ledger.events()] == [1, 2]
    assert find_problems(ledger) == []
