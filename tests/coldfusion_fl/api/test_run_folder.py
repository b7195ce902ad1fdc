"""Run folders as objects: those without rounds, without tasks, and those that were moved."""

import json

import pytest

import coldfusion_fl as cf
from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.data.memory.task_files import format_task_files, write_task_files
from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.repository.round_options import RoundOptions, settings_of_new_run
from coldfusion_fl.runs.ledger import Ledger


@pytest.fixture
def table(tmp_path):
    """The settings of a run in `tmp_path / "run"` with a task in memory."""
    catalogue = ["packaged", str(tmp_path / "run" / "tasks" / "catalogue.toml")]
    tasks, one = {"catalogue": catalogue, "seen": ["my-a"]}, {"contributors-per-round": 1, "min-contributions": 1}
    return to_table(parse_settings({"base": "b", "tasks": tasks, **one}, "test"))


def test_a_run_without_rounds_has_empty_tables(table, tmp_path):
    Ledger.create(tmp_path / "run", table)
    run = cf.Run(tmp_path / "run")
    assert run.records.empty
    assert run.records.index.name == "round"
    assert "update_norm" in run.records
    assert run.contributions.empty


def test_a_run_of_checkpoints_has_settings_and_cannot_be_resumed(tmp_path):
    Ledger.create(tmp_path / "run", settings_of_new_run("my-base", RoundOptions(fusion="ties()")))
    run = cf.Run(tmp_path / "run")
    assert (run.settings.base, run.settings.server.fusion, run.settings.tasks.seen) == ("my-base", "ties()", ())
    with pytest.raises(SettingsError, match="are added with `coldfusion fuse --run`, and it has no tasks") as error:
        run.resume()
    assert error.value.code == ErrorCode.SETTINGS_CONFLICT


def test_a_run_with_tasks_in_memory_can_be_moved(table, tasks, tmp_path):
    write_task_files(tmp_path / "run" / "tasks", format_task_files(tasks[:1]))
    ledger = Ledger.create(tmp_path / "run", table)
    assert ledger.settings == table
    assert str(tmp_path) not in json.dumps(json.loads((tmp_path / "run" / "run.json").read_text())["settings"])
    (tmp_path / "run").rename(tmp_path / "moved")
    run = cf.Run(tmp_path / "moved")
    catalogue = run.settings.tasks.catalogue
    assert catalogue == ("packaged", str(tmp_path / "moved" / "tasks" / "catalogue.toml"))
    assert cf.load_task("my-a", catalogue).train.texts == tasks[0].train.texts
    assert Ledger.resume(run.folder, to_table(run.settings)).settings == to_table(run.settings)
    (tmp_path / "moved").rename(tmp_path / "again")
    assert cf.Run(tmp_path / "again").settings.tasks.catalogue[1].startswith(str(tmp_path / "again"))
