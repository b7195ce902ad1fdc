"""`coldfusion finetune` and `coldfusion predict`: from a task to the predictions of a table."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from coldfusion_fl.classifier import open_classifier
from coldfusion_fl.config.parsing import read_settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.data.task import load_task
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import build_model, load_encoder, split_head
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.training.checkpoint import TrainingCheckpoint
from coldfusion_fl.training.node_state import HEAD, NodeFiles, simulated_folder


@pytest.fixture
def finetuned(coldfusion, toy_run, toy_data, tiny_base, tmp_path):
    """The folder of a classifier, and what the command printed."""
    words = ("--catalogue", toy_data / "toy.toml", "--config", toy_run())
    code, out, err = coldfusion("finetune", tiny_base, "--task", "a", "--out", tmp_path / "mine", *words)
    assert code == 0, err
    return tmp_path / "mine", out


def test_a_task_becomes_a_folder_with_a_card(finetuned):
    folder, out = finetuned
    config = json.loads((folder / "config.json").read_text())
    assert config["coldfusion"]["task"] == "a"
    assert sorted(config["id2label"].values()) == sorted(set(config["id2label"].values()))
    card = (folder / "README.md").read_text()
    assert "24 test rows" in out
    assert "on 24 test rows" in card
    assert "import coldfusion_fl.classifier" in card  # the tiny base has the head on the mean
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_a_table_gets_predictions(coldfusion, finetuned, tmp_path, suffix):
    folder, _ = finetuned
    table = tmp_path / "table.csv"
    table.write_text('text;id\n"one; text";1\n;2\ntwo;3\n')
    out = tmp_path / f"out{suffix}"
    code, printed, err = coldfusion("predict", folder, table, "--out", out)
    assert code == 0, err
    assert "1 row without a text" in printed
    readers = {
        ".csv": pd.read_csv,
        ".tsv": lambda path: pd.read_csv(path, sep="\t"),
        ".jsonl": lambda path: pd.read_json(path, lines=True),
        ".parquet": pd.read_parquet,
    }
    found = readers[suffix](out)
    classes = list(json.loads((folder / "config.json").read_text())["id2label"].values())
    assert list(found.columns) == ["text", "id", "prediction", "probability", *(f"probability.{c}" for c in classes)]
    assert found["prediction"].isna().tolist() == [False, True, False]
    assert set(found["prediction"].dropna().astype(str)) <= set(classes)
    assert found["probability"].dropna().between(0, 1).all()


def test_a_template_names_the_columns(coldfusion, finetuned, tmp_path):
    folder, _ = finetuned
    (tmp_path / "t.jsonl").write_text('{"title": "a", "body": "b"}\n')
    words = (folder, tmp_path / "t.jsonl", "--out", tmp_path / "o.csv", "--text", "{title}: {body}")
    code, _, err = coldfusion("predict", *words)
    assert code == 0, err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--task", "nope", "--out", "new"), "unknown task 'nope'"),
        (("--task", "a", "--out", "there"), "this path exists already"),
        (("--task", "a", "--out", "no/such/new"), "does not exist"),
        (("--task", "a", "--out", "new", "--head", "max"), "must be one of"),
    ],
)
def test_a_mistake_in_finetune(coldfusion, toy_data, tiny_base, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    code, _, err = coldfusion("finetune", tiny_base, "--catalogue", toy_data / "toy.toml", *words)
    assert code == 2
    assert message in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def test_a_mistake_in_predict(coldfusion, finetuned, tiny_base, tmp_path):
    folder, _ = finetuned
    (tmp_path / "t.csv").write_text("texts\none\n")
    (tmp_path / "taken.csv").write_text("text,prediction\none,x\n")
    out = tmp_path / "o.csv"
    for words, message in (
        ((folder, tmp_path / "t.csv", "--out", tmp_path / "o.xls"), "the suffix must be one of"),
        ((folder, tmp_path / "t.csv", "--out", tmp_path / "t.csv"), "exists already"),
        ((folder, tmp_path / "nowhere.csv", "--out", out), "this file does not exist"),
        ((folder, tmp_path / "t.csv", "--out", out, "--text", "body"), "'body'"),
        ((folder, tmp_path / "taken.csv", "--out", out), "has a column 'prediction' already"),
        ((tiny_base, tmp_path / "t.csv", "--out", out), "has no classification head"),
    ):
        code, _, err = coldfusion("predict", *words)
        assert (code, message in err) == (2, True), err
        assert not out.exists()


@pytest.fixture
def run_with_heads(toy_run, tiny_base, tmp_path):
    """A run folder with a model, and with the head that the contributor 'a' kept."""
    settings = read_settings(toy_run(**{"finetune.keep-head": "true"}))
    ledger = Ledger.create(tmp_path / "run", to_table(settings))
    shutil.copytree(tiny_base, ledger.folder / "model")
    base = open_base(str(tiny_base))
    task = load_task("a", settings.tasks.catalogue)
    head = split_head(build_model(base, task.num_labels, "mean", seed=9), load_encoder(base))
    NodeFiles(simulated_folder(ledger.folder, "a")).save(HEAD, 2, head)
    return ledger.folder, head


def test_a_contributor_takes_its_kept_head_home(coldfusion, run_with_heads, tmp_path):
    run, head = run_with_heads
    words = ("finetune", run, "--task", "a", "--head", "kept")
    code, _, err = coldfusion(*words, "--no-training", "--out", tmp_path / "as-it-was")
    assert code == 0, err
    found = open_classifier(str(tmp_path / "as-it-was")).model
    assert np.array_equal(found.head.weight.detach(), head["head.weight"])
    code, _, err = coldfusion(*words, "--out", tmp_path / "trained")
    assert code == 0, err
    trained = open_classifier(str(tmp_path / "trained")).model
    assert not np.array_equal(trained.head.weight.detach(), head["head.weight"])


def test_a_mistake_with_kept_heads(coldfusion, run_with_heads, tiny_base, toy_data, tmp_path):
    run, _ = run_with_heads
    out = tmp_path / "out"
    for words, message in (
        ((run, "--task", "b", "--head", "kept"), "there is no head of 'b' in this run"),
        ((tiny_base, "--task", "a", "--head", "kept", "--catalogue", toy_data / "toy.toml"), "needs a run folder"),
        ((run, "--task", "a", "--no-training"), "--no-training needs --head kept"),
    ):
        code, _, err = coldfusion("finetune", *words, "--out", out)
        assert (code, message in err) == (2, True), err
        assert not out.exists()


def test_an_interrupted_training_goes_on_with_the_same_command(coldfusion, toy_data, tiny_base, tmp_path, monkeypatch):
    words = ("finetune", tiny_base, "--task", "a", "--catalogue", toy_data / "toy.toml")
    code, _, err = coldfusion(*words, "--out", tmp_path / "whole")
    assert code == 0, err
    save, saved = TrainingCheckpoint.save, []

    def save_and_interrupt(self, *state):
        save(self, *state)
        saved.append(self.file)
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setattr(TrainingCheckpoint, "is_due", lambda self: True)
        interrupted.setattr(TrainingCheckpoint, "save", save_and_interrupt)
        assert coldfusion(*words, "--out", tmp_path / "out")[0]
    assert saved[0].is_file()
    assert not (tmp_path / "out").exists()
    code, out, err = coldfusion(*words, "--out", tmp_path / "out", "--seed", "1")
    assert code == 0, err
    assert "It starts anew" in out
    assert not saved[0].exists()
    shutil.rmtree(tmp_path / "out")
    with monkeypatch.context() as interrupted:
        interrupted.setattr(TrainingCheckpoint, "is_due", lambda self: True)
        interrupted.setattr(TrainingCheckpoint, "save", save_and_interrupt)
        assert coldfusion(*words, "--out", tmp_path / "out")[0]
    code, out, err = coldfusion(*words, "--out", tmp_path / "out")
    assert code == 0, err
    assert "goes on after step 1" in out
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "out")]
    assert weights[0] == weights[1]
    assert not saved[0].exists()
