"""The command line in this process; runs of Flower are in tests/experiments."""

import json
import sys

import numpy as np
import pytest
from fake_grid import FakeGrid, contribution, node
from flwr.app import Array, ArrayRecord
from flwr.supercore.task_identity import TaskIdentity

from coldfusion_fl.cli import main as cli
from coldfusion_fl.config.parsing import read_settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.run.ledger import Ledger
from coldfusion_fl.strategies import ColDFusion
from coldfusion_fl.versions import format_versions


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
        ({"server.fusion": '"meen"'}, "fusion: there is no 'meen'. Did you mean 'mean'? Known are: dare, fisher"),
        ({"server.server-optimizer": '"nesterov(momentum=1)"'}, "'nesterov.momentum' must be below 1"),
        ({"server.screening": '"size, greedy-soup"'}, "greedy-soup needs a score"),
        ({"server.server-validation": '"nobody"'}, "unknown task 'nobody'"),
        ({"server.ema": "1.0"}, "'server.ema' must be below 1"),
        ({"server.blend": "0.5"}, "blend needs the moving average"),
        ({"round-timeout": "inf"}, "must be a finite number"),
        ({"seed": "4294967296"}, "must be below 2147483648"),
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


@pytest.fixture
def played_run(toy_run, tmp_path, monkeypatch):
    """The folder of a run of a toy's settings, with played nodes: two rounds, a attacker, and scores."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    config = toy_run()
    settings = cli._settings(config, tmp_path / "run", None, None)
    ledger = Ledger.create(tmp_path / "run", to_table(settings))
    bad = node("c", train=lambda m: contribution(np.full((2, 3), np.nan, np.float32)))
    strategy = ColDFusion(min_available_nodes=3, ledger=ledger, screening="size")
    grid = FakeGrid(dict(enumerate([node("a", 1), node("b", 2), bad])))
    strategy.start(grid, ArrayRecord({"w": Array(np.zeros((2, 3), np.float32))}), num_rounds=2, timeout=5)
    return ledger.folder, config


def test_the_log_shows_the_lineage(coldfusion, played_run):
    folder, _ = played_run
    code, out, err = coldfusion("log", folder, "--check")
    assert code == 0, err
    for part in ("round 0", "the first", "round 2", "mean, plain", "fused", "rejected", "not finite", "0.500"):
        assert part in out
    assert "All files of the 3 rounds are as they were written." in out
    _, out, _ = coldfusion("log", folder, "--json")
    records = json.loads(out)
    assert [record["round"] for record in records] == [0, 1, 2]
    assert records[2]["contributions"].keys() == {"a", "b"}
    assert records[2]["mean-frozen-score"] == 3.0


def test_a_damaged_file_is_named(coldfusion, played_run):
    folder, config = played_run
    file = folder / "rounds" / "002" / "base.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    for words in (("log", folder, "--check"), ("run", config, "--resume", folder)):
        code, _, err = coldfusion(*words)
        assert code == 2
        assert f"{file}: this file is damaged" in err
        assert "to go on from round 1" in err


def test_all_damaged_files_are_named(coldfusion, played_run):
    folder, _ = played_run
    files = [folder / "rounds" / "000" / "base.safetensors", folder / "rounds" / "002" / "scores.json"]
    for file in files:
        file.write_bytes(b"{}")
    code, _, err = coldfusion("log", folder, "--check")
    assert code == 2
    assert all(f"{file}: this file is damaged" in err for file in files)


def test_the_log_says_that_nobody_is_at_a_run(coldfusion, played_run):
    folder, _ = played_run
    Ledger(folder).set_status("running")  # and then it was killed
    assert "not running any more, 3 bases" in coldfusion("log", folder)[1]
    with Ledger(folder).lock():
        assert "run: running, 3 bases" in coldfusion("log", folder)[1]


def test_a_record_that_was_changed_is_noticed(coldfusion, played_run):
    folder, _ = played_run
    file = folder / "rounds" / "001" / "record.json"
    file.write_text(file.read_text().replace('"a"', '"z"'))
    code, _, err = coldfusion("log", folder, "--check")
    assert code == 2
    assert "001/record.json: this file is damaged" in err


def test_a_resume_of_another_run_says_what_differs(coldfusion, played_run, toy_run):
    folder, _ = played_run
    other = toy_run(seed="4", rounds="9", **{"server.fusion": '"median"', "tasks.seen": '"a, b, c"'})
    code, _, err = coldfusion("run", other, "--resume", folder)
    assert code == 2
    assert "holds a run of other settings" in err
    assert "seed: 3 there, 4 here" in err
    assert "server.fusion: 'mean' there, 'median' here" in err
    assert "tasks.seen: 'a, b, c, d' there, 'a, b, c' here" in err
    assert "rounds" not in err.replace("rounds/", "")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run",), "there is no CONFIG"),
        (("run", "--resume", "nowhere"), "this is not a run folder"),
        (("log", "nowhere"), "this is not a run folder"),
        (("tasks", "--catalogue", " "), "names no catalogue. Shipped are: "),
        (("evaluate", "x", "--tasks", "bbc_news", "--json", "no/such/x.json"), "there is no folder"),
    ],
)
def test_a_mistake_on_the_command_line(coldfusion, words, message):
    code, _, err = coldfusion(*words)
    assert code == 2
    assert message in err


def test_a_federation_that_is_not_there_is_said(coldfusion, toy_run, tmp_path):
    code, _, err = coldfusion("run", toy_run(), "--federation", tmp_path / "acme", "--out", tmp_path / "run")
    assert code == 2
    assert "acme is no federation" in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_a_run_goes_on_where_it_began(coldfusion, tmp_path, toy_run):
    settings = to_table(read_settings(toy_run()))
    Ledger.create(tmp_path / "simulated", settings)
    code, _, err = coldfusion("run", "--resume", tmp_path / "simulated", "--federation", tmp_path / "acme")
    assert code == 2
    assert "began as a simulation, and goes on as one" in err
    Ledger.create(tmp_path / "remote", settings, str(tmp_path / "acme"))
    code, _, err = coldfusion("run", "--resume", tmp_path / "remote")
    assert code == 2
    assert "acme is no federation" in err  # it is gone; nothing is simulated in its place


def test_it_says_its_versions(coldfusion):
    code, out, _ = coldfusion("--version")
    assert code == 0
    assert out.strip() == format_versions()


def test_a_run_that_another_process_is_at(coldfusion, played_run):
    folder, config = played_run
    with Ledger(folder).lock():
        code, _, err = coldfusion("run", config, "--resume", folder)
    assert code == 2
    assert "another process is at this run" in err


def test_a_comma_in_a_path_survives(toy_run):
    settings = read_settings(toy_run())
    from coldfusion_fl.config.parsing import parse_settings
    from coldfusion_fl.config.tables import flatten, unflatten

    table = to_table(settings)
    table["tasks"]["catalogue"] = ["/data/a, b/mine.toml", "packaged"]
    for form in (table, unflatten(flatten(table))):
        assert parse_settings(form, "x").tasks.catalogue == ("/data/a, b/mine.toml", "packaged")
