"""Mistakes in the settings and in the rows, found before a run."""

import pytest

from coldfusion_fl.cli.run import run_settings
from coldfusion_fl.config.parsing import parse_settings, read_settings
from coldfusion_fl.config.tables import flatten, to_table, unflatten
from coldfusion_fl.errors import ColdFusionError
from coldfusion_fl.preflight.settings_check import check_contents, check_settings


def check(config, folder):
    """All checks of `coldfusion run`, in this process."""
    settings = run_settings(config, folder / "run", None, None)
    check_settings(settings, str(config))
    check_contents(settings, str(config))


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
        ({"contributors-per-round": "9"}, "seen has only 4 tasks"),
        ({"base": '"./no-such-model"'}, "does not exist"),
        ({"simulation.cpus": "4096"}, "this machine has"),
        ({"server.fusion": '"meen"'}, "fusion: unknown name 'meen'. Did you mean 'mean'? Available: dare, fisher"),
        ({"server.server-optimizer": '"nesterov(momentum=1)"'}, "'nesterov.momentum' must be below 1"),
        ({"server.screening": '"size, greedy-soup"'}, "greedy-soup needs a score"),
        ({"server.server-validation": '"nobody"'}, "unknown task 'nobody'"),
        ({"server.ema": "1.0"}, "'server.ema' must be below 1"),
        ({"server.blend": "0.5"}, "blend needs the moving average"),
        ({"round-timeout": "inf"}, "must be a finite number"),
        ({"tracking.to": '"mlflow, tensorbord"'}, "unknown tracker 'tensorbord'. Did you mean 'tensorboard'?"),
        ({"tracking.project": '"a/b"'}, "'tracking.project' must be a text like"),
        ({"seed": "4294967296"}, "must be below 2147483648"),
        (
            {"tasks.catalogue": '"paper36"', "tasks.seen": '"rte, cb, copa"', "tasks.unseen": ""},
            "data set 'nyu-mll/glue' (rte)",
        ),
    ],
)
def test_a_mistake_in_the_settings(toy_run, tmp_path, changes, words):
    with pytest.raises(ColdFusionError) as error:
        check(toy_run(**changes), tmp_path)
    assert words in str(error.value)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("rows", "more", "words"),
    [
        (ROWS, 'text = "txt"', "no column 'txt'. Did you mean 'text'?"),
        ("", "", "the train split has no rows"),
        (ROWS + "\udcff", "", "is not UTF-8"),
        (ROWS, 'test = "z.jsonl"', "cannot be learned"),
    ],
)
def test_a_mistake_in_the_rows(toy_run, tmp_path, rows, more, words):
    (tmp_path / "z.jsonl").write_text('{"text": "t", "label": "z"}')
    changes = bad_catalogue(tmp_path, rows.encode("utf-8", "surrogateescape").decode("latin-1"), more)
    (tmp_path / "t.jsonl").write_bytes(rows.encode("utf-8", "surrogateescape"))
    with pytest.raises(ColdFusionError) as error:
        check(toy_run(**changes, **ONE), tmp_path)
    assert words in str(error.value)
    assert "task 'a'" in str(error.value)


def test_a_comma_in_a_path_survives(toy_run):
    settings = read_settings(toy_run())
    table = to_table(settings)
    table["tasks"]["catalogue"] = ["/data/a, b/mine.toml", "packaged"]
    for form in (table, unflatten(flatten(table))):
        assert parse_settings(form, "x").tasks.catalogue == ("/data/a, b/mine.toml", "packaged")
