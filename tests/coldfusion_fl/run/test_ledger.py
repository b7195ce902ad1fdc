import contextlib
import errno
import json
import shutil

import numpy as np
import pytest

from coldfusion_fl.errors import RunFolderError, SettingsError
from coldfusion_fl.run import ledger as module
from coldfusion_fl.run.ledger import Ledger, ensure_free
from coldfusion_fl.run.lineage import lineage

BASE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "scalar": np.array(2.5, np.float32)}


@pytest.fixture
def ledger(tmp_path):
    return Ledger.create(tmp_path / "run", {"rounds": 2})


def test_a_round_comes_back_as_it_was(ledger):
    ledger.save_round(0, BASE, {})
    ledger.save_round(1, BASE, {"sampled": ["a"]})
    assert ledger.rounds() == [0, 1]
    assert all(ledger.load_base(1)[name].tobytes() == array.tobytes() for name, array in BASE.items())
    assert ledger.record(1).sampled == ["a"]
    assert ledger.record(1)["files"].keys() == {"base.safetensors"}
    assert ledger.state.last_round == 1
    assert ledger.settings == {"rounds": 2}


def test_a_folder_is_used_once(ledger, tmp_path):
    with pytest.raises(RunFolderError, match="holds another run already"):
        Ledger.create(ledger.folder, {})
    (tmp_path / "other").mkdir()
    ensure_free(tmp_path / "other")
    (tmp_path / "other" / "file").touch()
    with pytest.raises(RunFolderError, match="is a file"):
        ensure_free(tmp_path / "other" / "file")
    with pytest.raises(RunFolderError, match="not empty"):
        ensure_free(tmp_path / "other")
    with pytest.raises(RunFolderError, match="not a run folder"):
        _ = Ledger(tmp_path / "other").settings


def test_a_crash_in_mid_write_leaves_the_rounds_before(ledger, monkeypatch):
    ledger.save_round(0, BASE, {})

    def crash(tensors, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "save_file", crash)
    with pytest.raises(KeyboardInterrupt):
        ledger.save_round(1, BASE, {})
    assert ledger.rounds() == [0]
    assert {path.name for path in (ledger.folder / "rounds").iterdir()} == {"000"}
    assert ledger.load_base(0)["w"].shape == (2, 3)


def test_a_full_disk_is_said_so(ledger, monkeypatch):
    def full(tensors, path):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(RunFolderError, match="the disk is full. Free some space. What was written before"):
        ledger.save_round(0, BASE, {})


def test_a_damaged_base_is_named(ledger):
    ledger.save_round(0, BASE, {})
    file = ledger.round_folder(0) / "base.safetensors"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(RunFolderError, match=r"base.safetensors: the base of round 0 cannot be read"):
        ledger.load_base(0)


def test_events_of_two_writers_do_not_mix(ledger):
    other = Ledger(ledger.folder)
    for number in range(50):
        (ledger if number % 2 else other).event("tick", number=number, kind_of="x" * 500)
    with (ledger.folder / "progress.jsonl").open("a") as file:
        file.write('{"kind": "half')
    assert [event["number"] for event in ledger.events()] == list(range(50))
    some, place = ledger.events_from(0)
    assert (len(some), ledger.events_from(place)) == (50, ([], place))
    with (ledger.folder / "progress.jsonl").open("a") as file:
        file.write('-written"}\n')
    assert ledger.events_from(place)[0] == [{"kind": "half-written"}]


def test_a_written_folder_replaces_the_old_one(ledger):
    for text in ("old", "new"):
        with ledger.writing("model") as folder:
            folder.mkdir()
            (folder / text).write_text(text)
    assert [path.name for path in (ledger.folder / "model").iterdir()] == ["new"]
    assert json.loads((ledger.folder / "run.json").read_text())["versions"]["numpy"]


def test_one_flipped_bit_is_found_and_named(ledger):
    ledger.save_round(0, BASE, {})
    ledger.save_round(1, BASE, {}, {"momentum/w": BASE["w"]}, BASE)
    ledger.save_scores(1, {"a": {"frozen": 50.0}})
    ledger.verify(1)
    for file in sorted(ledger.round_folder(1).glob("*[!S]")):
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(RunFolderError) as caught:
            ledger.verify(1)
        assert str(caught.value).startswith((f"{file}: this file is damaged: its hash", f"{file}: it cannot be read"))
        assert str(caught.value).endswith(f"Remove 001 in {ledger.folder / 'rounds'} to go on from round 0.")
        file.unlink()
        with pytest.raises(RunFolderError, match=f"{file.name}: this file is missing"):
            ledger.verify(1)
        file.write_bytes(whole)
    ledger.verify(1)


def test_damaged_scores_are_made_again_and_cost_no_base(ledger):
    ledger.save_round(0, BASE, {})
    ledger.save_scores(0, {"a": {"frozen": 50.0}})
    (ledger.round_folder(0) / "scores.json").write_text("{}")
    with pytest.raises(RunFolderError, match=r"scores.json: this file is damaged"):
        ledger.verify(0)
    again = Ledger.reopen(ledger.folder)
    assert not again.has_scores(0)
    again.save_scores(0, {"a": {"frozen": 51.0}})
    again.verify(0)


def test_a_record_that_is_no_json_is_named(ledger):
    ledger.save_round(0, BASE, {})
    (ledger.round_folder(0) / "record.json").write_text("{")
    with pytest.raises(RunFolderError, match=r"000/record.json: it cannot be read"):
        ledger.record(0)


def test_to_reopen_clears_what_a_kill_left(ledger):
    ledger.save_round(0, BASE, {})
    ledger.event("round", round=1)
    half = ledger.folder / "rounds" / ".001.77.partial"
    half.mkdir()
    (half / "base.safetensors").write_bytes(b"half")
    (ledger.round_folder(0) / ".scores.json.77.partial").write_text("{")
    with (ledger.folder / "progress.jsonl").open("a") as file:
        file.write('{"kind": "half')
    again = Ledger.resume(ledger.folder, {"rounds": 5})
    again.event("round", round=2)
    assert [event.round for event in again.events()] == [1, 2]
    assert not list(ledger.folder.rglob("*.partial"))
    assert again.settings == {"rounds": 5}
    assert len(json.loads((ledger.folder / "run.json").read_text())["resumed"]) == 1


def test_to_go_on_with_other_settings_says_which(ledger):
    with pytest.raises(RunFolderError, match=r"server\.fusion: 'nothing' there, 'ties' here"):
        Ledger.resume(ledger.folder, {"rounds": 2, "server": {"fusion": "ties"}})


def test_one_process_at_a_time(ledger):
    with ledger.lock(), pytest.raises(RunFolderError, match="another process is at this run"):
        Ledger.reopen(ledger.folder)
    Ledger.reopen(ledger.folder)


def test_the_arrays_of_the_last_rounds_stay_and_all_records(ledger):
    for number in range(5):
        ledger.save_round(number, BASE, {"round": number})
    ledger.keep_last(2)
    assert [bool(list(ledger.round_folder(n).glob("*.safetensors"))) for n in range(5)] == [0, 0, 0, 1, 1]
    assert [ledger.record(number)["round"] for number in range(5)] == [0, 1, 2, 3, 4]
    for number in range(5):
        ledger.verify(number)
    with pytest.raises(RunFolderError, match=r"the arrays of round 1 were not kept \(keep-last\)"):
        ledger.load_base(1)
    # From the newest damaged round the way back is to the newest that has its arrays, past all that have not.
    (ledger.round_folder(4) / "base.safetensors").unlink()
    assert ledger.recovery_advice(4).startswith("Remove 004 in")
    (ledger.round_folder(3) / "base.safetensors").unlink()
    assert ledger.recovery_advice(4) == "No earlier round has its arrays: begin a new run."
    with pytest.raises(RunFolderError, match=r"004/base.safetensors: this file is missing"):
        ledger.verify(4)


def test_the_way_back_takes_all_later_rounds_along(ledger):
    for number in range(6):
        ledger.save_round(number, BASE, {"round": number})
    assert ledger.recovery_advice(3) == f"Remove 003 to 005 in {ledger.folder / 'rounds'} to go on from round 2."
    shutil.rmtree(ledger.round_folder(3))
    with pytest.raises(RunFolderError, match=r"003: this round is missing. Remove 004 to 005 in .* from round 2"):
        ledger.rounds()


@pytest.mark.parametrize("change", [lambda lines: [], lambda lines: lines[1:], lambda lines: lines[:1]])
def test_a_damaged_list_of_hashes_is_noticed(ledger, change):
    ledger.save_round(0, BASE, {})
    ledger.save_round(1, BASE, {}, {"momentum/w": BASE["w"]})
    file = ledger.round_folder(1) / "SHA256SUMS"
    file.write_text("".join(change(file.read_text().splitlines(keepends=True))))
    with pytest.raises(RunFolderError, match="SHA256SUMS: this file is damaged"):
        Ledger.reopen(ledger.folder)


def test_settings_come_back_as_they_were_or_are_rejected(tmp_path):
    settings = {"sizes": [1, 2], "pair": (1, 2), 3: "an int key", "deep": {"a": [{"b": 1}]}}
    Ledger.open(tmp_path / "run", settings)
    assert Ledger.open(tmp_path / "run", settings).settings["sizes"] == [1, 2]
    with pytest.raises(RunFolderError, match="sizes: '1, 2' there, '1, 3' here"):
        Ledger.open(tmp_path / "run", {**settings, "sizes": [1, 3]})
    with pytest.raises(SettingsError, match="must be texts, numbers, lists and tables"):
        Ledger.open(tmp_path / "other", {"path": tmp_path})
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["run.json", "status.json", "rounds/000/record.json", "rounds/000/scores.json"])
@pytest.mark.parametrize("content", ["[]", "null", "{", None])
def test_whatever_a_file_holds_there_is_no_traceback(ledger, name, content):
    ledger.save_round(0, BASE, {"round": 0, "base-sha256": "f00"})
    ledger.save_scores(0, {"a": {"frozen": 1.0}})
    file = ledger.folder / name
    file.unlink() if content is None else file.write_text(content)
    with contextlib.suppress(RunFolderError):
        lineage(ledger)
    if name == "status.json":
        lineage(ledger, check=True)
    else:
        with pytest.raises(RunFolderError, match=f"{name}|not a run folder"):
            lineage(ledger, check=True)
    assert isinstance(ledger.status, dict)


def test_open_makes_a_folder_once_and_goes_on_with_it(tmp_path):
    first = Ledger.open(str(tmp_path / "run"), {"lr": 1})
    first.save_round(0, BASE, {})
    assert Ledger.open(tmp_path / "run", {"lr": 1}).rounds() == [0]
    with pytest.raises(RunFolderError, match="lr: 1 there, 2 here"):
        Ledger.open(tmp_path / "run", {"lr": 2})


def test_a_run_is_finished_when_all_of_it_is(ledger):
    """The rounds of a strategy lie within what the server app does, which writes the model after them."""
    with ledger.track_status():
        with ledger.track_status():
            pass
        assert ledger.state.state == "running"
    assert ledger.state.state == "finished"
    with contextlib.suppress(SettingsError), ledger.track_status():
        with ledger.track_status():
            pass
        raise SettingsError("the disk is full")
    assert (ledger.state.state, ledger.state.final) == ("failed", True)
    with ledger.track_status():
        pass
    assert ledger.state.state == "finished"


def test_a_run_that_goes_on_has_not_failed_for_good(ledger):
    with contextlib.suppress(SettingsError), ledger.track_status():
        raise SettingsError("no")
    assert ledger.state.final is True
    resumed = Ledger.resume(ledger.folder, {"rounds": 2})
    assert (resumed.status["state"], resumed.status["reason"], resumed.status["final"]) == ("running", None, None)


def test_what_a_person_stopped_has_not_failed(ledger):
    with contextlib.suppress(SystemExit), ledger.track_status():
        Ledger(ledger.folder).set_status("stopped")  # by the command line, before the server app hears of it
        raise SystemExit(0)
    assert ledger.state.state == "stopped"
