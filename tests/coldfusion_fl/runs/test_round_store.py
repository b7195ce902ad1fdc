"""The rounds of a run on disk: whole or not at all, and damage is found."""

import errno
import shutil
from pathlib import Path

import numpy as np
import pytest

from coldfusion_fl.errors import ErrorCode, RunFolderError
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.records import RoundRecord

BASE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "scalar": np.array(2.5, np.float32)}


@pytest.fixture
def ledger(tmp_path):
    return Ledger.create(tmp_path / "run", {"rounds": 2})


def test_a_round_comes_back_as_it_was(ledger):
    ledger.save_round(BASE, RoundRecord(round=0))
    ledger.save_round(BASE, RoundRecord(round=1, sampled=["a"]))
    assert ledger.rounds() == [0, 1]
    assert all(ledger.load_base(1)[name].tobytes() == array.tobytes() for name, array in BASE.items())
    assert ledger.record(1).sampled == ["a"]
    assert ledger.record(1).files.keys() == {"base.safetensors"}
    assert ledger.state.last_round == 1
    assert ledger.settings == {"rounds": 2}


def test_a_crash_in_mid_write_leaves_the_rounds_before(ledger, monkeypatch):
    ledger.save_round(BASE, RoundRecord(round=0))

    def crash(tensors, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.numpy.save_file", crash)
    with pytest.raises(KeyboardInterrupt):
        ledger.save_round(BASE, RoundRecord(round=1))
    assert ledger.rounds() == [0]
    assert {path.name for path in (ledger.folder / "rounds").iterdir()} == {"000"}
    assert ledger.load_base(0)["w"].shape == (2, 3)


def test_a_full_disk_is_said_so(ledger, monkeypatch):
    def full(tensors, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("safetensors.numpy.save_file", full)
    with pytest.raises(RunFolderError, match="the disk is full. Free some space. What was written before"):
        ledger.save_round(BASE, RoundRecord(round=0))


def test_a_damaged_base_is_named(ledger):
    ledger.save_round(BASE, RoundRecord(round=0))
    file = ledger.round_folder(0) / "base.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(RunFolderError, match=r"base.safetensors: the base of round 0 cannot be read"):
        ledger.load_base(0)


def test_one_flipped_bit_is_found_and_named(ledger):
    ledger.save_round(BASE, RoundRecord(round=0))
    ledger.save_round(BASE, RoundRecord(round=1), {"momentum/w": BASE["w"]}, BASE)
    ledger.save_scores(1, {"a": {"frozen": 50.0}})
    ledger.verify(1)
    for file in sorted(ledger.round_folder(1).glob("*[!S]")):
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(RunFolderError) as caught:
            ledger.verify(1)
        assert str(caught.value).startswith((f"{file}: this file is damaged: its hash", f"{file}: it cannot be read"))
        assert str(caught.value).endswith(f"Remove 001 in {ledger.folder / 'rounds'} to resume from round 0.")
        file.unlink()
        with pytest.raises(RunFolderError, match=f"{file.name}: this file is missing"):
            ledger.verify(1)
        file.write_bytes(whole)
    ledger.verify(1)


def test_damaged_scores_are_made_again_and_cost_no_base(ledger):
    ledger.save_round(BASE, RoundRecord(round=0))
    ledger.save_scores(0, {"a": {"frozen": 50.0}})
    (ledger.round_folder(0) / "scores.json").write_text("{}")
    with pytest.raises(RunFolderError, match=r"scores.json: this file is damaged"):
        ledger.verify(0)
    again = Ledger.reopen(ledger.folder)
    assert not again.has_scores(0)
    again.save_scores(0, {"a": {"frozen": 51.0}})
    again.verify(0)


def test_a_record_that_is_no_json_is_named(ledger):
    ledger.save_round(BASE, RoundRecord(round=0))
    (ledger.round_folder(0) / "record.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"000/record.json: it cannot be read"):
        ledger.record(0)


def test_the_arrays_of_the_last_rounds_stay_and_all_records(ledger):
    for number in range(5):
        ledger.save_round(BASE, RoundRecord(round=number))
    ledger.keep_last(2)
    assert [bool(list(ledger.round_folder(n).glob("*.safetensors"))) for n in range(5)] == [0, 0, 0, 1, 1]
    assert [ledger.record(number).round for number in range(5)] == [0, 1, 2, 3, 4]
    for number in range(5):
        ledger.verify(number)
    with pytest.raises(RunFolderError, match=r"the arrays of round 1 were removed \(keep-last\)"):
        ledger.load_base(1)
    # From the newest damaged round the way back is to the newest that has its arrays, past all that have not.
    (ledger.round_folder(4) / "base.safetensors").unlink()
    assert ledger.recovery_advice(4).startswith("Remove 004 in")
    (ledger.round_folder(3) / "base.safetensors").unlink()
    assert ledger.recovery_advice(4) == "No earlier round has its arrays: start a new run."
    with pytest.raises(RunFolderError, match=r"004/base.safetensors: this file is missing"):
        ledger.verify(4)


@pytest.mark.parametrize("has_links", [True, False])
def test_arrays_that_never_change_are_one_file_of_all_rounds(ledger, monkeypatch, has_links):
    """On a file system without hard links, each round has a copy."""
    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", lambda *_: (_ for _ in ()).throw(OSError("not supported")))
    constants = {"e": np.arange(6, dtype=np.float32)}
    for number in range(3):
        ledger.save_round(BASE, RoundRecord(round=number), constants=constants)
    files = [ledger.round_folder(number) / "constant.safetensors" for number in range(3)]
    assert len({file.stat().st_ino for file in files}) == (1 if has_links else 3)
    ledger.keep_last(1)
    assert [file.exists() for file in files] == [False, False, True]
    ledger.verify(2)
    base = ledger.load_base(2)
    assert base.keys() == {*BASE, "e"} and np.array_equal(base["e"], constants["e"])
    files[2].write_bytes(b"other")
    with pytest.raises(RunFolderError, match=r"002/constant.safetensors: this file is damaged"):
        ledger.verify(2)


def test_the_way_back_takes_all_later_rounds_along(ledger):
    for number in range(6):
        ledger.save_round(BASE, RoundRecord(round=number))
    assert ledger.recovery_advice(3) == f"Remove 003 to 005 in {ledger.folder / 'rounds'} to resume from round 2."
    shutil.rmtree(ledger.round_folder(3))
    with pytest.raises(RunFolderError, match=r"003: this round is missing. Remove 004 to 005 in .* from round 2"):
        ledger.rounds()


@pytest.mark.parametrize("change", [lambda lines: [], lambda lines: lines[1:], lambda lines: lines[:1]])
def test_a_damaged_list_of_hashes_is_noticed(ledger, change):
    ledger.save_round(BASE, RoundRecord(round=0))
    ledger.save_round(BASE, RoundRecord(round=1), {"momentum/w": BASE["w"]})
    file = ledger.round_folder(1) / "SHA256SUMS"
    file.write_text("".join(change(file.read_text().splitlines(keepends=True))))
    with pytest.raises(RunFolderError, match="SHA256SUMS: this file is damaged"):
        Ledger.reopen(ledger.folder)


@pytest.mark.parametrize("content", ['{"round": "one"}', '{"round": 0, "sampld": []}', '{"sampled": []}'])
def test_a_record_with_a_wrong_key_or_type_is_named(ledger, content):
    ledger.save_round(BASE, RoundRecord(round=0))
    (ledger.round_folder(0) / "record.json").write_text(content)
    with pytest.raises(RunFolderError, match=r"000/record\.json") as error:
        ledger.record(0)
    assert error.value.code == ErrorCode.RUN_FOLDER_DAMAGED
