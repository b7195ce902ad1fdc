"""`coldfusion finetune` and `coldfusion predict`: from a task to the predictions of a table."""

import json

import pandas as pd
import pytest


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
