"""The list of a run's files: what was changed in them, and in all hashes beside them, is found and named."""

import json
import shutil
import subprocess

import numpy as np
import pytest

from coldfusion_fl.atomic_files import sha256
from coldfusion_fl.errors import ErrorCode, RunFolderError
from coldfusion_fl.runs.integrity.file_list import read_checksums
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.lineage import lineage, verify_files
from coldfusion_fl.runs.records import RoundRecord

BASE = {"w": np.arange(6, dtype=np.float32)}


def save(ledger, number, frozen=50.0):
    ledger.save_round({"w": BASE["w"] + number}, RoundRecord(round=number, base_sha256=str(number)))
    ledger.save_metrics(number, {"loss": 1.0}, {})
    ledger.save_scores(number, {"a": {"frozen": frozen + number}})


@pytest.fixture
def ledger(tmp_path):
    """A finished run of three rounds, with a model and a report."""
    made = Ledger.create(tmp_path / "run", {"rounds": 3})
    for number in range(4):
        save(made, number)
    with made.writing("model") as folder:
        (folder / "1_Pooling").mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        (folder / "1_Pooling" / "config.json").write_text("{}")
    with made.writing("report.json") as path:
        path.write_text("{}")
    return made


def forge(ledger, path, old, new):
    """Change a file of a run, and the hash in the folder of its round, as somebody who knows the format can."""
    file = ledger.folder / path
    file.write_bytes(file.read_bytes().replace(old, new))
    sums = file.parent / "SHA256SUMS"
    if path.startswith("rounds/"):
        listed = read_checksums(sums) | {file.name: sha256(file)}
        sums.write_text("".join(f"{digest}  {name}\n" for name, digest in listed.items()))


def test_a_whole_run_is_in_its_list(ledger):
    verified = verify_files(ledger)
    assert (verified.differences, verified.unlisted) == ([], [])
    assert verified.sha256 == sha256(ledger.folder / "SHA256SUMS")
    checked = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=ledger.folder, check=False)
    assert checked.returncode == 0


@pytest.mark.parametrize(
    ("path", "old", "new", "named"),
    [
        ("rounds/001/scores.json", b"51.0", b"91.0", r"001/scores\.json: this file was changed"),
        ("rounds/003/scores.json", b"53.0", b"93.0", r"003/scores\.json: this file was changed"),
        ("rounds/002/metrics.json", b"1.0", b"0.1", r"002/metrics\.json: this"),
        ("rounds/003/record.json", b'"fused": false', b'"fused": true', r"003/record\.json: this"),
        ("run.json", b'"rounds": 3', b'"rounds": 9', "run.json"),
        ("model/config.json", b"{}", b"[]", "model/config.json"),
        ("model/1_Pooling/config.json", b"{}", b"[]", "1_Pooling"),
        ("report.json", b"{}", b"[]", "report.json"),
    ],
)
def test_a_change_with_its_own_hash_is_found_and_named(ledger, path, old, new, named):
    forge(ledger, path, old, new)
    with pytest.raises(RunFolderError, match=named) as error:
        lineage(ledger, check=True)
    assert error.value.code == ErrorCode.RUN_FOLDER_DAMAGED
    assert str(error.value).count("\n") == 0


def test_a_record_in_the_middle_breaks_the_chain_of_the_records_too(ledger):
    forge(ledger, "rounds/001/record.json", b'"fused": false', b'"fused": true')
    with pytest.raises(RunFolderError, match="does not contain the hash of round 1"):
        lineage(ledger)


def test_deleted_and_added_rounds_and_files_are_found(ledger):
    shutil.copytree(ledger.folder, ledger.folder.parent / "other")
    other = Ledger(ledger.folder.parent / "other")
    shutil.rmtree(ledger.round_folder(3))
    (ledger.folder / "model" / "code.py").touch()
    with pytest.raises(RunFolderError) as error:
        verify_files(ledger)
    deleted, added = sorted(str(error.value).splitlines(), key=lambda line: "code.py" in line)
    assert deleted.startswith(f"{ledger.round_folder(3)}: this round is missing")
    assert added.startswith(f"{ledger.folder / 'model' / 'code.py'}: ")
    shutil.copytree(other.round_folder(3), other.round_folder(4))
    shutil.copytree(other.round_folder(3), other.round_folder(5))
    with pytest.raises(RunFolderError, match="004: it was added"):
        verify_files(other)


def test_a_round_that_is_undone_or_removed_and_made_again_is_listed_as_it_is(ledger):
    ledger.set_aside(3)
    assert verify_files(ledger).unlisted == []
    shutil.rmtree(ledger.round_folder(2))
    shutil.rmtree(ledger.round_folder(1))
    again = Ledger.resume(ledger.folder, {"rounds": 3})
    save(again, 1, frozen=70.0)
    assert verify_files(ledger).differences == []
    assert "rounds/002/record.json" not in ledger.file_list.read()


def test_what_a_killed_process_did_not_list_is_listed_when_the_run_goes_on(ledger):
    before = (ledger.folder / "SHA256SUMS").read_bytes()
    save(ledger, 4)
    (ledger.folder / "SHA256SUMS").write_bytes(before)
    assert verify_files(ledger).unlisted == ["rounds/004"]
    Ledger.resume(ledger.folder, {"rounds": 5})
    assert verify_files(ledger).unlisted == []


def test_scores_that_are_made_again_are_listed_again(ledger):
    (ledger.round_folder(3) / "scores.json").write_text("{}")
    again = Ledger.resume(ledger.folder, {"rounds": 3})
    verify_files(again)
    again.save_scores(3, {"a": {"frozen": 53.0}})
    assert "rounds/003/scores.json" in again.file_list.read()
    verify_files(again)


def test_settings_that_another_program_changed_stay_changed_when_the_run_goes_on(ledger):
    file = ledger.folder / "run.json"
    facts = json.loads(file.read_text())
    file.write_text(json.dumps(facts | {"id": "another"}))
    Ledger.resume(ledger.folder, {"rounds": 3})
    with pytest.raises(RunFolderError, match=r"run\.json: this file was changed"):
        verify_files(ledger)


def test_a_run_of_an_earlier_release_can_go_on_and_says_which_rounds_are_not_listed(ledger):
    (ledger.folder / "SHA256SUMS").unlink()
    verified = verify_files(ledger)
    old = [f"rounds/{number:03d}" for number in range(4)]
    assert (verified.unlisted, verified.sha256) == ([*old, "run.json", "model", "report.json"], "")
    again = Ledger.resume(ledger.folder, {"rounds": 5})
    save(again, 4)
    assert verify_files(again).unlisted == [*old[:3], "model", "report.json"]
    forge(again, "rounds/004/scores.json", b"54.0", b"94.0")
    with pytest.raises(RunFolderError, match=r"004/scores\.json: this file was changed"):
        verify_files(again)


def test_the_arrays_that_keep_last_removes_are_not_missing(ledger):
    ledger.keep_last(1)
    assert verify_files(ledger).differences == []


def test_scores_that_a_killed_process_did_not_list_are_named_in_the_last_round_alone(ledger):
    listed = ledger.file_list.read()
    for number in (3, 1):
        ledger.file_list.drop(f"rounds/{number:03d}/scores.json")
        if number == 3:
            assert verify_files(ledger).unlisted == ["rounds/003/scores.json"]
    with pytest.raises(RunFolderError, match=r"001/scores\.json: it was added"):
        verify_files(ledger)
    assert listed.keys() - ledger.file_list.read().keys() == {"rounds/001/scores.json", "rounds/003/scores.json"}
