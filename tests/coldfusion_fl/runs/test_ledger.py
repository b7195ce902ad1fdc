"""The run folder as a whole."""

import contextlib
import json

import numpy as np
import pytest

from coldfusion_fl.errors import RunFolderError, SettingsError
from coldfusion_fl.runs.events import RoundStarted
from coldfusion_fl.runs.ledger import Ledger, ensure_free
from coldfusion_fl.runs.lineage import lineage
from coldfusion_fl.runs.records import RoundRecord
from coldfusion_fl.runs.state import RunState

BASE = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "scalar": np.array(2.5, np.float32)}


@pytest.fixture
def ledger(tmp_path):
    return Ledger.create(tmp_path / "run", {"rounds": 2})


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


def test_a_written_folder_replaces_the_old_one(ledger):
    for text in ("old", "new"):
        with ledger.writing("model") as folder:
            folder.mkdir()
            (folder / text).write_text(text)
    assert [path.name for path in (ledger.folder / "model").iterdir()] == ["new"]
    assert json.loads((ledger.folder / "run.json").read_text())["versions"]["numpy"]


def test_to_reopen_clears_what_a_kill_left(ledger):
    ledger.save_round(BASE, RoundRecord(round=0))
    ledger.emit(RoundStarted(round=1, sampled=["a"]))
    half = ledger.folder / "rounds" / ".001.77.partial"
    half.mkdir()
    (half / "base.safetensors").write_bytes(b"half")
    (ledger.round_folder(0) / ".scores.json.77.partial").write_text("{")
    with (ledger.folder / "progress.jsonl").open("a") as file:
        file.write('{"kind": "half')
    again = Ledger.resume(ledger.folder, {"rounds": 5})
    again.emit(RoundStarted(round=2, sampled=["a"]))
    assert [event.round for event in again.events()] == [1, 2]
    assert not list(ledger.folder.rglob("*.partial"))
    assert again.settings == {"rounds": 5}
    assert len(json.loads((ledger.folder / "run.json").read_text())["resumed"]) == 1


def test_to_go_on_with_other_settings_says_which(ledger):
    with pytest.raises(RunFolderError, match=r"server\.fusion: saved not set, now 'ties'"):
        Ledger.resume(ledger.folder, {"rounds": 2, "server": {"fusion": "ties"}})


def test_one_process_at_a_time(ledger):
    with ledger.lock(), pytest.raises(RunFolderError, match="another process is working on this run"):
        Ledger.reopen(ledger.folder)
    Ledger.reopen(ledger.folder)


def test_settings_come_back_as_they_were_or_are_rejected(tmp_path):
    settings = {"sizes": [1, 2], "pair": (1, 2), 3: "an int key", "deep": {"a": [{"b": 1}]}}
    Ledger.open(tmp_path / "run", settings)
    assert Ledger.open(tmp_path / "run", settings).settings["sizes"] == [1, 2]
    with pytest.raises(RunFolderError, match="sizes: saved '1, 2', now '1, 3'"):
        Ledger.open(tmp_path / "run", {**settings, "sizes": [1, 3]})
    with pytest.raises(SettingsError, match="must be texts, numbers, lists and tables"):
        Ledger.open(tmp_path / "other", {"path": tmp_path})
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["run.json", "status.json", "rounds/000/record.json", "rounds/000/scores.json"])
@pytest.mark.parametrize("content", ["[]", "null", "{", None])
def test_whatever_a_file_holds_there_is_no_traceback(ledger, name, content):
    ledger.save_round(BASE, RoundRecord(round=0, base_sha256="f00"))
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
    assert isinstance(ledger.state, RunState)


def test_open_makes_a_folder_once_and_goes_on_with_it(tmp_path):
    first = Ledger.open(str(tmp_path / "run"), {"lr": 1})
    first.save_round(BASE, RoundRecord(round=0))
    assert Ledger.open(tmp_path / "run", {"lr": 1}).rounds() == [0]
    with pytest.raises(RunFolderError, match="lr: saved 1, now 2"):
        Ledger.open(tmp_path / "run", {"lr": 2})


def test_a_run_is_complete_when_its_results_are_written_and_not_when_its_rounds_are(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    for number in (0, 1):
        ledger.save_round(BASE, RoundRecord(round=number))
    (ledger.folder / "model").mkdir()
    ledger.state_file.stopped("it was interrupted")  # while it wrote the report
    assert not ledger.is_complete(1)
    ledger.state_file.finished()
    assert ledger.is_complete(1)
    assert not ledger.is_complete(2)
