import errno
import json

import numpy as np
import pytest

from coldfusion_fl import ledger as module
from coldfusion_fl.errors import RunFolderError
from coldfusion_fl.ledger import Ledger, ensure_free

BASE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "scalar": np.array(2.5, np.float32)}


@pytest.fixture
def ledger(tmp_path):
    return Ledger.create(tmp_path / "run", {"rounds": 2})


def test_a_round_comes_back_as_it_was(ledger):
    ledger.save_round(0, BASE, {})
    ledger.save_round(1, BASE, {"sampled": ["a"]})
    assert ledger.rounds() == [0, 1]
    assert all(ledger.load_base(1)[name].tobytes() == array.tobytes() for name, array in BASE.items())
    assert ledger.load_json(1, "record.json") == {"sampled": ["a"]}
    assert ledger.status["last_round"] == 1
    assert ledger.settings == {"rounds": 2}


def test_a_folder_is_used_once(ledger, tmp_path):
    with pytest.raises(RunFolderError, match="holds another run already"):
        Ledger.create(ledger.folder, {})
    (tmp_path / "other").mkdir()
    ensure_free(tmp_path / "other")
    (tmp_path / "other" / "file").touch()
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
    with pytest.raises(RunFolderError, match="the disk is full. Free some space; the rounds"):
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
