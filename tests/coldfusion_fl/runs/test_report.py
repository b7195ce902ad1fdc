import csv
import json

import numpy as np
import pytest
from rich.console import Console
from scored_runs import MADE, make_scored_run, scored

from coldfusion_fl.runs.events import RoundStarted, RunStarted
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.records import RoundRecord
from coldfusion_fl.runs.report import score_table, summarize, write_report


@pytest.fixture
def ledger(tmp_path):
    return make_scored_run(tmp_path / "run")


def test_the_summary_sets_seen_and_unseen_apart(ledger):
    summary = summarize(ledger)
    assert [row["task"] for row in summary["tasks"]] == ["a", "b", "u"]
    means = {row["task"]: row for row in summary["means"]}
    assert means["mean of seen tasks"]["frozen-difference"] == pytest.approx(-3)
    assert means["mean of unseen tasks"]["frozen-difference"] == pytest.approx(3)
    assert means["mean of unseen tasks"]["few-shot-difference"] == pytest.approx(6)
    assert means["mean of all tasks"]["frozen-base"] == pytest.approx(140 / 3)
    assert means["mean of tasks with at least 100 test rows"]["frozen-difference"] == pytest.approx(3.5)
    assert summary["rounds"] == {0: {"a": 50, "b": 60, "u": 30}, 2: {"a": 54, "b": 50, "u": 33}}
    assert summary["rejected"] == [{"round": 1, "name": "b", "reason": "it lacks a weight"}]
    assert summary["seconds"]["rounds"] == 5
    assert summary["seconds"]["contributors"] == 3


def test_a_task_that_was_not_scored_at_first_has_no_difference(ledger):
    ledger.save_scores(0, {"a": scored(50.0)})
    rows = {row["task"]: row for row in summarize(ledger)["tasks"]}
    assert rows["b"]["frozen-base"] is None
    assert rows["b"]["frozen-difference"] is None


def test_the_last_evaluated_base_is_compared_and_named(ledger):
    ledger.save_round({"w": np.ones(2, np.float32)}, RoundRecord(round=3, base_sha256="1a57", settings=MADE))
    summary = summarize(ledger)
    assert summary["evaluated"] == {"base": 0, "fused": 2, "last-round": 3}
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(score_table(summary))
    assert "The last scores are of round 2 of 3." in console.export_text()


def test_the_total_leaves_out_the_time_between_a_stop_and_its_resume(ledger):
    for now in (100, 5000):
        ledger.emit(RunStarted(time=now))
        ledger.emit(RoundStarted(round=1, sampled=["a"], time=now + (10 if now == 100 else 3)))
    assert summarize(ledger)["seconds"]["total"] == 13


def test_a_name_is_no_markup(ledger):
    reported = {"metric": "[/x]", "head": "[bold"}
    ledger.save_scores(0, {"[/a]": scored(50.0, **reported)})
    ledger.save_scores(2, {"[/a]": scored(54.0, **reported)})
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(score_table(summarize(ledger)))
    text = console.export_text()
    assert all(word in text for word in ("[/a]", "[/x]", "[bold"))


def test_a_name_is_no_formula(ledger):
    ledger.save_scores(0, {"$\\frac$": scored(50.0), "$x": scored(30.0, seen=False, **{"few-shot": 20.0})})
    ledger.save_scores(2, {"$\\frac$": scored(54.0), "$x": scored(33.0, seen=False, **{"few-shot": 26.0})})
    write_report(ledger)
    assert (ledger.folder / "scores.png").stat().st_size > 10_000


def test_the_files(ledger):
    write_report(ledger)
    with (ledger.folder / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[0]["task"] == "a"
    assert float(rows[0]["frozen-difference"]) == 4
    assert rows[0]["few-shot-base"] == ""
    assert json.loads((ledger.folder / "report.json").read_text())["tasks"][2]["few-shot-fused"] == 26.0
    assert (ledger.folder / "scores.png").read_bytes().startswith(b"\x89PNG")


def test_the_table(ledger):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(score_table(summarize(ledger)))
    text = console.export_text()
    for part in ("50.0 → 54.0", "+4.0", "20.0 → 26.0", "b*", "fewer than 100 test rows", "head: mean"):
        assert part in text


def test_a_run_without_scores_has_an_empty_report(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    write_report(ledger)
    assert json.loads((ledger.folder / "report.json").read_text())["tasks"] == []
    assert not (ledger.folder / "scores.png").exists()
    assert not (ledger.folder / "report.csv").exists()


def test_rounds_that_kept_their_base_are_listed_with_the_reason(ledger):
    ledger.save_round({"w": np.zeros(2, np.float32)}, RoundRecord(round=3, kept_because="too few", settings=MADE))
    assert summarize(ledger)["kept"] == [{"round": 2, "reason": ""}, {"round": 3, "reason": "too few"}]


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"test-rows-hash": "bb"}, "test rows"),
        ({"num-examples": 150}, "test rows"),
        ({"num-examples": 150, "test-rows-hash": "bb"}, "test rows"),
        ({"metric": "macro-f1"}, "metric"),
        ({"metric": "macro-f1", "head": "class-token", "test-rows-hash": "bb"}, "test rows, metric, head"),
        ({}, ""),
    ],
)
def test_scores_of_other_rows_are_marked_and_in_no_mean(ledger, changes, differs):
    ledger.save_scores(0, {"a": scored(50.0, **{"test-rows-hash": "aa"}), "b": scored(60.0)})
    ledger.save_scores(2, {"a": scored(54.0, **{"test-rows-hash": "aa", **changes}), "b": scored(50.0)})
    summary = summarize(ledger)
    row = summary["tasks"][0]
    assert (row["differs"], row["frozen-base"], row["frozen-fused"]) == (differs, 50, 54)
    assert row["frozen-difference"] == (None if differs else 4)
    assert summary["means"][0]["frozen-difference"] == (-10 if differs else -3)
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(score_table(summary))
    text = " ".join(console.export_text().split())
    assert ("a†" in text, f"of other {differs}" in text) == (bool(differs), bool(differs))
    assert "50.0 → 54.0" in text


def test_scores_without_a_hash_of_their_rows_are_compared(ledger):
    """Runs of earlier versions saved none."""
    ledger.save_scores(2, {"a": scored(54.0, **{"test-rows-hash": "aa"})})
    assert summarize(ledger)["tasks"][0]["frozen-difference"] == 4


def test_a_run_whose_scores_cannot_be_compared_has_no_figure(ledger):
    write_report(ledger)
    ledger.save_scores(2, {name: scored(54.0, rows=9) for name in "abu"})
    write_report(ledger)
    assert not (ledger.folder / "scores.png").exists()


def test_a_first_base_without_scores_is_not_replaced_by_a_later_one(ledger):
    (ledger.round_folder(0) / "scores.json").unlink()
    summary = summarize(ledger)
    assert summary["evaluated"] == {"base": None, "fused": 2, "last-round": 2}
    assert [(row["frozen-base"], row["frozen-difference"]) for row in summary["tasks"]] == [(None, None)] * 3
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(score_table(summary))
    text = console.export_text()
    assert "? → 54.0" in text
    assert "The first base has no scores." in text


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\tx", '=cmd|"/c calc"!A1'])
def test_a_cell_of_the_csv_is_no_formula(ledger, name):
    for number, points in ((0, 50.0), (2, 40.0)):
        ledger.save_scores(number, {name: scored(points, metric="=x", head="@y")})
    write_report(ledger)
    with (ledger.folder / "report.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert (row["task"], row["metric"], row["head"]) == (f"'{name}", "'=x", "'@y")
    assert float(row["frozen-difference"]) == -10
