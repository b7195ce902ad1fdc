"""`coldfusion compare`."""

import csv
import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from coldfusion_fl.cli.models.comparison_output import comparison_csv
from coldfusion_fl.evaluation.comparison import ComparedModel, Comparison, TaskScores
from coldfusion_fl.evaluation.differences import describe_difference
from coldfusion_fl.runs.ledger import Ledger


@pytest.fixture(scope="module")
def other(tiny_base, tmp_path_factory):
    """A run folder whose model is the tiny base with other weights."""
    run = Ledger.create(tmp_path_factory.mktemp("runs") / "run", {}).folder
    shutil.copytree(tiny_base, run / "model")
    change_weights(run / "model", scale=0.3)
    return run


def change_weights(folder, scale):
    noise = np.random.default_rng(0)
    weights = load_file(folder / "model.safetensors")
    changed = {
        name: array + scale * noise.normal(size=array.shape).astype(array.dtype) for name, array in weights.items()
    }
    save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def compare(coldfusion, toy_data, tiny_base, other):
    """Calls `coldfusion compare` with the tiny base and the run folder, unless other models are given."""

    def call(*words, models=(tiny_base, other)):
        return coldfusion("compare", *models, "--catalogue", toy_data / "toy.toml", *words)

    return call


@pytest.mark.parametrize("mode", ["frozen", "few-shot"])
def test_compare(compare, toy_run, tiny_base, other, tmp_path, mode):
    code, out, err = compare(
        "--tasks", "a,b", "--mode", mode, "--config", toy_run(),
        "--json", tmp_path / "found.json", "--csv", tmp_path / "found.csv",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads((tmp_path / "found.json").read_text())
    assert (found["mode"], found["head"], found["seed"]) == (mode, "mean", 3)
    assert [one["model"] for one in found["models"]] == [str(tiny_base), str(other)]
    assert [one["task"] for one in found["differences"]] == ["a", "b", None]
    assert all(f"{one['task'] or 'mean of 2 tasks'}: {one['verdict']}" in out for one in found["differences"])
    assert f"{mode} score 4 of 4" in out
    with (tmp_path / "found.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["task"], row["model"]) for row in rows] == [
        (task, str(model)) for task in ("a", "b", "mean of 2 tasks") for model in (tiny_base, other)
    ]
    assert [float(row["score"]) for row in rows[:2]] == found["tasks"][0]["scores"]
    assert [row["difference"] for row in rows[1::2]] == [str(one["difference"]) for one in found["differences"]]
    assert not any(row["difference"] for row in rows[::2])


def test_compare_and_evaluate_find_the_same_scores(compare, coldfusion, toy_data, other, tmp_path):
    compare("--tasks", "a", "--json", tmp_path / "both.json")
    words = ("--tasks", "a", "--catalogue", toy_data / "toy.toml", "--json", tmp_path / "one.json")
    code, _, err = coldfusion("evaluate", other, *words)
    assert code == 0, err
    both, one = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("both", "one"))
    assert both["tasks"][0]["scores"][1] == one[0]["value"]
    assert both["tasks"][0]["test_rows_hash"] == one[0]["test_rows_hash"]


def test_the_head_of_the_reference_is_announced_before_the_scores(compare, tiny_base, other, tmp_path):
    class_token = tmp_path / "class-token"
    shutil.copytree(other / "model", class_token)
    shutil.rmtree(class_token / "1_Pooling")
    code, out, err = compare("--tasks", "a", models=(tiny_base, class_token))
    assert code == 0, err
    before, _, after = out.partition("frozen score 1 of 2")
    note = next(line for line in before.splitlines() if line.startswith("head: "))
    assert str(class_token) in note
    assert "head: mean" in after
    code, out, err = compare("--tasks", "a", "--head", "class-token", models=(tiny_base, class_token))
    assert code == 0, err
    assert "head: class-token" in out
    assert "reference's own head" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tasks", "nope"), "unknown task 'nope'"),
        (("--tasks", "a,a"), "--tasks names a twice"),
        (("--tasks", "a", "--mode", "warm"), "--mode must be one of"),
        (("--tasks", "a", "--head", "max"), "'head' must be one of"),
        (("--tasks", "a", "--json", "nowhere/x.json"), "nowhere does not exist"),
        (("--tasks", "a", "--csv", "nowhere/x.csv"), "nowhere does not exist"),
        (("--tasks", "a", "--csv", "."), "--csv .: this is a folder"),
        (("--tasks", "a", "--json", "x", "--csv", "./x"), "--json and --csv both name"),
        (("--tasks", "a", "--config", "none.toml"), "none.toml: this file does not exist"),
    ],
)
def test_a_wrong_option(compare, tmp_path, words, message):
    code, out, err = compare(*words)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not out.strip()
    assert not list(tmp_path.iterdir())


def test_models_that_cannot_be_compared(compare, tiny_base, other, tmp_path):
    (tmp_path / "copies").mkdir()
    shutil.copytree(tiny_base, tmp_path / "copies" / "copy")
    for models, message in [
        ((tiny_base,), "needs two models"),
        ((other, tiny_base, other), f"{other} is named twice"),
        ((tiny_base, tmp_path / "copies" / "copy"), "are identical"),
        ((tiny_base, tmp_path / "nowhere"), "nowhere: this folder does not exist"),
    ]:
        code, out, err = compare("--tasks", "a", "--json", tmp_path / "x.json", models=models)
        assert code == 2
        assert message in err
        assert not out.strip()
    assert not (tmp_path / "x.json").exists()


def test_a_few_shot_comparison_needs_shots(compare, toy_run):
    code, _, err = compare("--tasks", "a", "--mode", "few-shot", "--config", toy_run(**{"evaluate.shots": "0"}))
    assert code == 2
    assert "evaluate.shots is 0" in err


def test_a_model_that_cannot_be_scored_leaves_the_old_files(compare, tiny_base, other, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(other / "model", damaged)
    change_weights(damaged, scale=1e30)
    (tmp_path / "old.json").write_text("old")
    code, _, err = compare("--tasks", "a", "--json", tmp_path / "old.json", models=(tiny_base, damaged))
    assert code == 2
    assert "task 'a'" in err
    assert (tmp_path / "old.json").read_text() == "old"


def test_no_cell_of_the_csv_is_a_formula():
    scores = TaskScores("=1+1", "accuracy", 1, 1, 1, "hash", 50.0, (50.0, -1.0))
    one = describe_difference("@b", "=1+1", -51.0, (-60.0, -42.0), 1)
    models = (ComparedModel("+a", "1"), ComparedModel("@b", "2"))
    written = comparison_csv(Comparison("frozen", "mean", 0, models, (scores,), None, (one,), ()))
    rows = list(csv.DictReader(written.splitlines()))
    assert [(row["task"], row["model"]) for row in rows] == [("'=1+1", "'+a"), ("'=1+1", "'@b")]
    assert rows[1]["score"] == "-1.0"  # a number stays a number
