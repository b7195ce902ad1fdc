"""`coldfusion evaluate`."""

import json
import shutil

import pytest

from coldfusion_fl.config.parsing import read_settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.runs.ledger import Ledger


@pytest.mark.parametrize("mode", ["frozen", "few-shot", "finetuned"])
def test_evaluate(coldfusion, toy_run, toy_data, tiny_base, tmp_path, mode):
    code, out, err = coldfusion(
        "evaluate", tiny_base, "--tasks", "a,b", "--catalogue", toy_data / "toy.toml", "--mode", mode,
        "--config", toy_run(), "--json", tmp_path / "scores.json",
    )  # fmt: skip
    assert code == 0, err
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert [(s["task"], s["mode"], s["head"], s["test_examples"]) for s in scores] == [
        ("a", mode, "mean", 24),
        ("b", mode, "mean", 24),
    ]
    assert f"{scores[0]['value']:.1f}" in out
    assert scores[0]["test_rows_hash"] in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tasks", "a", "--mode", "frosen"), "--mode must be one of finetuned, frozen, few-shot"),
        (("--tasks", "a", "--head", "max"), "'head' must be one of"),
        (("--tasks", "nope"), "unknown task 'nope'"),
        (("--tasks", ""), "--tasks is empty"),
    ],
)
def test_a_mistake_in_evaluate(coldfusion, toy_data, tiny_base, words, message):
    code, out, err = coldfusion("evaluate", tiny_base, "--catalogue", toy_data / "toy.toml", *words)
    assert code == 2
    assert message in err
    assert not out.strip()


def test_a_run_folder_stands_for_its_model(coldfusion, toy_data, tiny_base, tmp_path):
    run = tmp_path / "run"
    Ledger.create(run, {})
    words = ("--tasks", "a", "--catalogue", toy_data / "toy.toml")
    code, _, err = coldfusion("evaluate", run, *words)
    assert code == 2
    assert f"this run has no model yet. Finish it first: coldfusion run --resume {run}" in err
    shutil.copytree(tiny_base, run / "model")
    code, _, err = coldfusion("evaluate", run, *words)
    assert code == 0, err


def test_the_settings_and_tasks_of_a_run_are_the_defaults(coldfusion, toy_run, tiny_base, tmp_path):
    settings = read_settings(toy_run(**{"evaluate.test-examples": "7"}))
    ledger = Ledger.create(tmp_path / "run", to_table(settings))
    shutil.copytree(tiny_base, ledger.folder / "model")
    code, _, err = coldfusion("evaluate", ledger.folder, "--tasks", "a", "--json", tmp_path / "scores.json")
    assert code == 0, err
    assert json.loads((tmp_path / "scores.json").read_text())[0]["test_examples"] == 7
    code, out, err = coldfusion("finetune", ledger.folder, "--task", "a", "--out", tmp_path / "mine")
    assert code == 0, err
    assert "24 test rows" in out


def test_a_settings_file_needs_no_tables_but_those_of_training_and_scores(coldfusion, toy_data, tiny_base, tmp_path):
    file = tmp_path / "scoring.toml"
    file.write_text("evaluate.test-examples = 7\n")
    words = ("evaluate", tiny_base, "--tasks", "a", "--catalogue", toy_data / "toy.toml", "--config", file)
    code, _, err = coldfusion(*words, "--json", tmp_path / "scores.json")
    assert code == 0, err
    assert json.loads((tmp_path / "scores.json").read_text())[0]["test_examples"] == 7
    file.write_text("evaluates.test-examples = 7\n")
    code, _, err = coldfusion(*words)
    assert code == 2
    assert "evaluates" in err
