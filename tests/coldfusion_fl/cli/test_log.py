"""`coldfusion log`, and resuming, with the folder of a finished run."""

import hashlib
import json
import shutil
import subprocess

import numpy as np
import pytest
from fake_grid import FakeGrid, contribution, node, set_task_identity
from flwr.app import Array, ArrayRecord
from flwr.supercore.task_identity import TaskIdentity

from coldfusion_fl.cli.run import run_settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.records import RoundRecord, RoundSettings
from coldfusion_fl.strategies import ColDFusion


@pytest.fixture
def finished_run(toy_run, tmp_path, monkeypatch):
    """The folder of a run and its settings: two rounds of a fake grid, with one attacker, and scores."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, None)
    set_task_identity()
    config = toy_run()
    settings = run_settings(config, tmp_path / "run", None, None)
    ledger = Ledger.create(tmp_path / "run", to_table(settings))
    bad = node("c", train=lambda m: contribution(np.full((2, 3), np.nan, np.float32)))
    strategy = ColDFusion(contributor_names="query", min_available_nodes=3, ledger=ledger, screening="size")
    grid = FakeGrid(dict(enumerate([node("a", 1), node("b", 2), bad], start=100)))
    strategy.start(grid, ArrayRecord({"w": Array(np.zeros((2, 3), np.float32))}), num_rounds=2, timeout=5)
    return ledger.folder, config


def test_the_log_shows_the_lineage(coldfusion, finished_run):
    folder, _ = finished_run
    code, out, err = coldfusion("log", folder, "--check")
    assert code == 0, err
    for part in ("round 0", "first base", "round 2", "mean, plain", "fused", "rejected", "not finite", "0.500"):
        assert part in out
    assert "All files of 3 rounds match their hashes." in out
    _, out, _ = coldfusion("log", folder, "--json")
    records = json.loads(out)
    assert [record["round"] for record in records] == [0, 1, 2]
    assert records[2]["contributions"].keys() == {"a", "b"}
    assert records[2]["mean-frozen-score"] == 3.0


def test_the_log_names_excluded_and_missing_contributors_and_why_a_run_ended(coldfusion, tmp_path, toy_run):
    ledger = Ledger.create(tmp_path / "run", to_table(run_settings(toy_run(), tmp_path / "run", None, None)))
    base = {"w": np.zeros(2, np.float32)}
    ledger.save_round(base, RoundRecord(round=0))
    excluded = {"c": "the frozen weights of this node's base are not those of the run"}
    settings = RoundSettings(
        fusion="mean", server_optimizer="plain", ema=0, screening=[], exclude=[], max_rejections=3, seed=0,
        contributors_per_round=2, min_contributions=2, compression="float32", staleness_discount=0,
    )  # fmt: skip
    ledger.save_round(
        base, RoundRecord(round=1, began=1.0, excluded=excluded, missing=["d"], settings=settings, kept_because="none")
    )
    ledger.state_file.failed("a round needs 2 contributors.\nTo resume, start more \x1b[1mnodes.")
    code, out, err = coldfusion("log", ledger.folder)
    assert code == 0, err
    lines = [line.split() for line in out.splitlines()]
    assert ["excluded", "c", *excluded["c"].split()] in lines
    assert ["not", "connected", "d"] in lines
    assert "The run ended early: a round needs 2 contributors.\nTo resume, start more ?[1mnodes.\n" in out


def test_a_damaged_file_is_named(coldfusion, finished_run):
    folder, config = finished_run
    file = folder / "rounds" / "002" / "base.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    for words in (("log", folder, "--check"), ("run", config, "--resume", folder)):
        code, _, err = coldfusion(*words)
        assert code == 2
        assert f"{file}: this file is damaged" in err
        assert "to resume from round 1" in err


def test_all_damaged_files_are_named(coldfusion, finished_run):
    folder, _ = finished_run
    files = [folder / "rounds" / "000" / "base.safetensors", folder / "rounds" / "002" / "scores.json"]
    for file in files:
        file.write_bytes(b"{}")
    code, _, err = coldfusion("log", folder, "--check")
    assert code == 2
    assert all(f"{file}: this file is damaged" in err for file in files)


def test_the_log_shows_whether_a_process_runs_the_run(coldfusion, finished_run):
    folder, _ = finished_run
    Ledger(folder).state_file.running()  # and then it was killed
    assert "lost, 3 bases" in coldfusion("log", folder)[1]
    with Ledger(folder).lock():
        assert "run: running, 3 bases" in coldfusion("log", folder)[1]


def test_a_changed_record_is_detected(coldfusion, finished_run):
    folder, _ = finished_run
    file = folder / "rounds" / "001" / "record.json"
    file.write_text(file.read_text().replace('"a"', '"z"'))
    code, _, err = coldfusion("log", folder, "--check")
    assert code == 2
    assert "001/record.json: this file is damaged" in err


def test_resuming_with_other_settings_names_the_differences(coldfusion, finished_run, toy_run):
    folder, _ = finished_run
    other = toy_run(seed="4", rounds="9", **{"server.fusion": '"median"', "tasks.seen": '"a, b, c"'})
    code, _, err = coldfusion("run", other, "--resume", folder)
    assert code == 2
    assert "was started with other settings" in err
    assert "seed: saved 3, now 4" in err
    assert "server.fusion: saved 'mean', now 'median'" in err
    assert "tasks.seen: saved 'a, b, c, d', now 'a, b, c'" in err
    assert "rounds" not in err.replace("rounds/", "")


def test_a_run_of_another_process_cannot_be_resumed(coldfusion, finished_run):
    folder, config = finished_run
    with Ledger(folder).lock():
        code, _, err = coldfusion("run", config, "--resume", folder)
    assert code == 2
    assert "another process is working on this run" in err


def test_a_run_is_signed_and_the_signer_checked(coldfusion, finished_run, tmp_path):
    folder, _ = finished_run
    if shutil.which("ssh-keygen") is None:
        pytest.skip("ssh-keygen is not installed")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    code, _, err = coldfusion("log", folder, "--signer", tmp_path / "key.pub")
    assert code == 2 and "--sign KEY" in err
    code, signed, err = coldfusion("log", folder, "--sign", tmp_path / "key")
    assert code == 0, err
    code, verified, err = coldfusion("log", folder, "--signer", tmp_path / "key.pub")
    assert code == 0, err
    digest = hashlib.sha256((folder / "signed" / "SHA256SUMS").read_bytes()).hexdigest()
    assert digest in signed and digest in verified
    shutil.rmtree(folder / "rounds" / "002")
    (folder / "SHA256SUMS").unlink()  # so that the folder alone is consistent
    assert coldfusion("log", folder, "--check")[0] == 0
    code, _, err = coldfusion("log", folder, "--signer", tmp_path / "key.pub")
    assert code == 2 and "002: this round is missing" in err


def test_strays_and_lost_lines_are_named_by_log_report_and_a_resumed_run(coldfusion, finished_run):
    folder, config = finished_run
    (folder / "rounds" / "notes").mkdir()
    with (folder / "progress.jsonl").open("ab") as file:
        file.write(b'{"kind": "half\n')
    for words in (("log", folder), ("report", folder)):
        code, out, err = coldfusion(*words)
        assert code == 0, err
        assert "notes: this is not the folder of a round" in out
        assert "not a valid event" in out
    (folder / "rounds" / "003").touch()
    code, _, err = coldfusion("run", config, "--resume", folder)
    assert code == 2 and "003: round 3 will be written here" in err


def test_a_name_in_an_error_message_moves_no_cursor(coldfusion):
    _, _, err = coldfusion("log", "run\x1b[2J\rgone")
    assert "run?[2J?gone: not a run folder" in err
