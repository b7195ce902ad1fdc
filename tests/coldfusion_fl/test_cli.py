"""The command line in this process; runs of Flower are in tests/experiments."""

import json
import sys

import pytest

from coldfusion_fl import cli


@pytest.fixture
def coldfusion(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["coldfusion", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return call


def bad_catalogue(folder, rows, more=""):
    (folder / "t.jsonl").write_text(rows)
    (folder / "bad.toml").write_text(f'[tasks.a]\ntrain = "t.jsonl"\n{more}')
    return {"tasks.catalogue": f'"{folder / "bad.toml"}"', "tasks.seen": '"a"', "tasks.unseen": ""}


ROWS = "".join(f'{{"text": "t{i}", "label": "{"xy"[i % 2]}"}}\n' for i in range(40))
ONE = {"contributors-per-round": "1", "min-contributions": "1"}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rouns": "3"}, "Did you mean 'rounds'?"),
        ({"base": ""}, "the setting 'base' is missing"),
        ({"tasks.seen": '"a, b, c, dd"'}, "unknown task 'dd'"),
        ({"contributors-per-round": "9"}, "only 4 tasks are seen"),
        ({"base": '"./no-such-model"'}, "no such folder"),
        ({"simulation.cpus": "4096"}, "this machine has"),
        (
            {"tasks.catalogue": '"paper36"', "tasks.seen": '"rte, cb, copa"', "tasks.unseen": ""},
            "data set 'nyu-mll/glue' (rte)",
        ),
    ],
)
def test_a_mistake_in_the_settings(coldfusion, toy_run, tmp_path, changes, words):
    code, out, err = coldfusion("run", toy_run(**changes), "--out", tmp_path / "out")
    assert code == 2
    assert words in err
    assert err.count("\n") == 1
    assert "Traceback" not in err + out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rows", "more", "words"),
    [
        (ROWS, 'text = "txt"', "no column 'txt'. Did you mean 'text'?"),
        ("", "", "the train split is empty"),
        (ROWS + "\udcff", "", "is not UTF-8"),
        (ROWS, 'test = "z.jsonl"', "the label 'z' occurs in the test split but never in train"),
    ],
)
def test_a_mistake_in_the_rows(coldfusion, toy_run, tmp_path, rows, more, words):
    (tmp_path / "z.jsonl").write_text('{"text": "t", "label": "z"}')
    changes = bad_catalogue(tmp_path, rows.encode("utf-8", "surrogateescape").decode("latin-1"), more)
    (tmp_path / "t.jsonl").write_bytes(rows.encode("utf-8", "surrogateescape"))
    code, _, err = coldfusion("run", toy_run(**changes, **ONE), "--out", tmp_path / "out")
    assert code == 2
    assert words in err
    assert "task 'a'" in err
    assert not (tmp_path / "out").exists()


def test_a_run_folder_that_holds_another_run(coldfusion, toy_run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "run.json").write_text("{}")
    code, _, err = coldfusion("run", toy_run(), "--out", tmp_path / "out")
    assert code == 2
    assert "holds another run already" in err


def test_a_settings_file_that_is_not_there(coldfusion):
    code, _, err = coldfusion("run", "nowhere.toml")
    assert code == 2
    assert "nowhere.toml: there is no such file" in err


def test_tasks_lists_sizes_classes_and_baselines(coldfusion, toy_data):
    code, out, _ = coldfusion("tasks", "--catalogue", toy_data / "toy.toml")
    assert code == 0
    row = next(line for line in out.splitlines() if line.startswith("│ b "))
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "b",
        "accuracy",
        "3",
        "60",
        "18",
        "24",
        "33.3",
    ]


def test_tasks_that_cannot_be_read_are_named(coldfusion):
    code, out, err = coldfusion("tasks", "rte", "--catalogue", "excerpts")
    assert code == 2
    assert "--data-root" in err
    code, out, err = coldfusion("tasks", "--catalogue", "excerpts")
    assert code == 2
    assert "rte" in out


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


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tasks", "a", "--mode", "frosen"), "--mode must be one of finetuned, frozen, few-shot"),
        (("--tasks", "a", "--head", "max"), "'head' must be one of"),
        (("--tasks", "nope"), "unknown task 'nope'"),
        (("--tasks", ""), "--tasks names no task"),
    ],
)
def test_a_mistake_in_evaluate(coldfusion, toy_data, tiny_base, words, message):
    code, out, err = coldfusion("evaluate", tiny_base, "--catalogue", toy_data / "toy.toml", *words)
    assert code == 2
    assert message in err
    assert not out.strip()


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", "Score a model on tasks"),
        ("run", "a TOML file"),
        ("evaluate", "A model folder"),
        ("tasks", "Only these tasks"),
    ],
)
def test_help_explains(coldfusion, command, words):
    code, out, _ = coldfusion(*command.split(), "--help")
    assert code == 0
    assert words in out
