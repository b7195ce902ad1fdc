"""What the ServerApp of a federation leaves in the run folder beside the rounds."""

import json
import re

import pytest
from fake_grid import FakeGrid, diverging_node, node, set_task_identity
from flwr.app import ConfigRecord, Context, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from strategy_runs import zero_arrays

from coldfusion_fl.cli.run import run_settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.engines.deployment import server_app
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.strategies import ColDFusion

PROBLEM = "the frozen weights of this node's base are not those of the run"


def with_another_base(message):
    return RecordDict(
        {"config": ConfigRecord({"name": "c", "problem": f"{PROBLEM}\n2026-01-01 00:00:00 \x1b[1mforged"})}
    )


@pytest.fixture
def run(toy_run, tmp_path, monkeypatch):
    """Has the ServerApp execute a run of this many rounds with a fake grid; returns the lines of the run's log."""
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, None)
    set_task_identity()
    monkeypatch.setattr(server_app, "limit_array_wait", lambda: None)
    ledger = Ledger.create(tmp_path / "run", to_table(run_settings(toy_run(), tmp_path / "run", None, None)))
    members = tmp_path / "members.json"
    members.write_text(json.dumps({name: number for number, name in enumerate("abcd", start=100)}))

    def execute(serve):
        monkeypatch.setattr(server_app, "serve", serve)
        server_app.main(
            FakeGrid({100: node("a"), 101: node("b"), 102: with_another_base, 103: diverging_node("d")}),
            Context(1, 1, {}, RecordDict(), {"run-folder": str(ledger.folder), "members": str(members)}),
        )

    execute.log = ledger.folder / "log.txt"
    return execute


def serve(grid, settings, ledger, node_names):
    awaited = ("a", "b", "c", "d", "e")
    strategy = ColDFusion(ledger=ledger, node_names=node_names, awaited_names=awaited, node_timeout=0.3)
    strategy.start(grid, zero_arrays(), num_rounds=2, timeout=5)


def test_the_log_has_what_explains_a_run(run):
    run(serve)
    lines = run.log.read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d \S", line) for line in lines)
    text = "\n".join(lines)
    for part in (
        "[ROUND 1/2]",
        "[ROUND 2/2]",
        f"Node 102 ('c') is excluded: {PROBLEM}?2026",
        "Excluded in this round: c.",
        "Not connected in this round: e.",
        "Round 1: the contribution of 'd' is rejected: 'w' holds values that are not finite",
        "Aggregated MetricRecord",
    ):
        assert part in text
    assert "\x1b" not in text
    assert not any(line.endswith("INFO :") for line in lines)


def test_the_log_has_the_traceback_of_a_crash(run):
    def crash(*_):
        raise ZeroDivisionError("a bug")

    with pytest.raises(ZeroDivisionError):
        run(crash)
    text = run.log.read_text()
    assert "ERROR : The run crashed." in text
    assert "ZeroDivisionError: a bug" in text
