"""The command line in this process; whole runs are in tests/engines."""

import subprocess
import sys

import pytest

from coldfusion_fl.config.parsing import read_settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.versions import format_versions


def test_a_mistake_becomes_one_line_and_exit_code_2(coldfusion, toy_run, tmp_path):
    code, out, err = coldfusion("run", toy_run(**{"tasks.seen": '"a, b, c, dd"'}), "--out", tmp_path / "out")
    assert code == 2
    assert "dd" in err
    assert err.count("\n") == 1
    assert "Traceback" not in err + out
    assert not (tmp_path / "out").exists()


def test_a_mistake_in_the_rows_is_found_before_the_run_folder_is_created(coldfusion, toy_run, tmp_path):
    """This error is found in the run process and raised in this one."""
    (tmp_path / "t.jsonl").write_text('{"text": "t", "label": "x"}\n')
    (tmp_path / "bad.toml").write_text('[tasks.a]\ntrain = "t.jsonl"\ntext = "txt"')
    changes = {"tasks.catalogue": f'"{tmp_path / "bad.toml"}"', "tasks.seen": '"a"', "tasks.unseen": ""}
    few = {"contributors-per-round": "1", "min-contributions": "1"}
    code, _, err = coldfusion("run", toy_run(**changes, **few), "--out", tmp_path / "out")
    assert code == 2
    assert "no column 'txt'" in err
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
    assert "nowhere.toml: this file does not exist" in err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", "Score a model on tasks"),
        ("run", "a TOML file"),
        ("evaluate", "A model folder"),
        ("compare", "beyond chance"),
        ("tasks", "Only these tasks"),
    ],
)
def test_help_explains(coldfusion, command, words):
    code, out, _ = coldfusion(*command.split(), "--help")
    assert code == 0
    assert words in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run",), "CONFIG is missing"),
        (("run", "--resume", "nowhere"), "not a run folder"),
        (("log", "nowhere"), "not a run folder"),
        (("tasks", "--catalogue", " "), "names no catalogue. Shipped are: "),
        (("evaluate", "x", "--tasks", "bbc_news", "--json", "no/such/x.json"), "does not exist"),
    ],
)
def test_a_mistake_on_the_command_line(coldfusion, words, message):
    code, _, err = coldfusion(*words)
    assert code == 2
    assert message in err


def test_a_federation_that_does_not_exist(coldfusion, toy_run, tmp_path):
    code, _, err = coldfusion("run", toy_run(), "--federation", tmp_path / "acme", "--out", tmp_path / "run")
    assert code == 2
    assert "acme is not a federation" in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_a_run_is_resumed_by_the_engine_that_started_it(coldfusion, tmp_path, toy_run):
    settings = to_table(read_settings(toy_run()))
    Ledger.create(tmp_path / "simulated", settings)
    code, _, err = coldfusion("run", "--resume", tmp_path / "simulated", "--federation", tmp_path / "acme")
    assert code == 2
    assert "holds a simulation" in err
    Ledger.create(tmp_path / "remote", settings, str(tmp_path / "acme"))
    code, _, err = coldfusion("run", "--resume", tmp_path / "remote")
    assert code == 2
    assert "acme is not a federation" in err  # it does not exist any more, and no simulation replaces it


def test_the_option_version(coldfusion):
    code, out, _ = coldfusion("--version")
    assert code == 0
    assert out.strip() == format_versions()


def test_names_with_marks_are_shown_as_they_are(coldfusion, toy_data, tiny_base, tmp_path):
    """The marks are those of rich: `[/x]` alone would end in a traceback."""
    file, model = tmp_path / "[red] mine.toml", tmp_path / "[bold]base"
    file.write_text(f'[tasks."[/x]:cat:"]\nfolder = "{toy_data / "a"}"\n')
    model.symlink_to(tiny_base)
    _, listed, _ = coldfusion("tasks", "--catalogue", file)
    assert "[red]mine.toml" in "".join(listed.split())  # the title is wrapped
    code, scores, error = coldfusion("evaluate", model, "--tasks", "[/x]:cat:", "--catalogue", file)
    assert code == 0, error
    assert "│ [/x]:cat: │" in listed
    assert "│ [/x]:cat: │" in scores
    assert "[bold]base" in "".join(scores.split())


def test_the_command_line_loads_no_library_of_the_run_process():
    """They take seconds, and the run process loads them itself."""
    code = "import sys, coldfusion_fl.cli.main\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "transformers", "ray", "flwr", "sklearn", "scipy", "pandas"} & set(loaded.split())
