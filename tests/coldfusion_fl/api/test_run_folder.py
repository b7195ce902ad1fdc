"""Run folders as objects: those without rounds, without tasks, and those that were moved."""

import pytest

import coldfusion_fl as cf
from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.config.tables import to_table
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
