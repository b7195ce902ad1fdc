"""`coldfusion fuse --run`."""

import json

import pytest

from coldfusion_fl.arrays.blocks import update_norm
from coldfusion_fl.repository import checkpoint_round


@pytest.fixture
def run(coldfusion, three, tiny_base, toy_data, tmp_path):
    """A run whose settings name a task for the server validation, with one round."""
    code, _, err = coldfusion(
        "fuse", *three, "--base", tiny_base, "--run", "repository", "--screening", "size", "--server-validation", "a",
        "--rollback", "100", "--catalogue", toy_data / "toy.toml",
    )  # fmt: skip
    assert code == 0, err
    return tmp_path / "repository"


def test_a_round_after_the_other_and_back(coldfusion, run, checkpoint):
    code, out, err = coldfusion("fuse", checkpoint("mine", seed=8), run, "--run", run)
    assert code == 0, err
    text = " ".join(out.split())
    assert "round 2 base" in text
    assert "fused mine 1.000" in text
    assert "rejected repository" in text
    assert "coldfusion fuse --run" in text
    assert "Server validation:" in text
    code, out, _ = coldfusion("log", run, "--check")
    assert code == 0
    assert "All files of 3 rounds match their hashes" in out
    code, out, _ = coldfusion("status", run)
    assert code == 0
    assert "finished, 2 rounds; ended" in " ".join(out.split())
    code, out, err = coldfusion("fuse", "--run", run, "--undo", 2)
    assert code == 0, err
    assert "Round 2 is undone" in out
    assert sorted(path.name for path in (run / "rounds").iterdir()) == ["000", "001"]
    assert (run / "undone" / "002" / "record.json").exists()


def test_a_round_that_is_not_taken_ends_with_code_1(coldfusion, run, checkpoint, encoder, monkeypatch):
    monkeypatch.setattr(checkpoint_round, "checked_score", lambda *given: lambda found: -update_norm(encoder, found))
    code, out, _ = coldfusion("fuse", checkpoint("mine", seed=8), "--run", run, "--rollback", "0.001")
    assert code == 1
    record = json.loads((run / "rounds" / "002" / "record.json").read_text())
    assert record["settings"]["rollback"] == 0.001
    assert record["rolled-back"]
    assert "KEPT: the server's validation score fell" in " ".join(out.split())
    assert "The old model" in out


def test_the_model_of_the_run_can_be_evaluated_and_the_run_cannot_be_resumed(coldfusion, run, toy_data):
    code, _, err = coldfusion("evaluate", run, "--mode", "frozen", "--tasks", "a", "--catalogue", toy_data / "toy.toml")
    assert code == 0, err
    code, _, err = coldfusion("run", "--resume", run)
    assert code == 2
    assert "the rounds of this run are added with `coldfusion fuse --run`" in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--run", "new", "--out", "fused"), "--run and --out cannot be combined"),
        ((), "--out is missing"),
        (("--out", "fused"), "--base is missing"),
        (("--run", "new"), "new: this is not a run folder"),
        (("--out", "fused", "--base", "./b", "--rollback", "1"), "--rollback needs --run"),
        (("--run", "new", "--undo", "1"), "Leave the checkpoints and the other options out"),
        (("--run", "new", "--base", "./b", "--fusion", "tise"), "fusion: unknown name 'tise'"),
        (("--run", "new", "--base", "./b", "--rollback", "1"), "rollback needs a score of the server's own"),
        (("--run", "new", "--base", "./b"), "./b: this folder does not exist"),
    ],
)
def test_a_mistake(coldfusion, three, tmp_path, words, message):
    code, _, err = coldfusion("fuse", three[0], *words)
    assert code == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_no_checkpoint(coldfusion, tmp_path):
    code, _, err = coldfusion("fuse", "--run", "new")
    assert code == 2
    assert "there is no checkpoint to fuse" in err
