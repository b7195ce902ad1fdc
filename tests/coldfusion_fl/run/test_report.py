import csv
import json

import numpy as np
import pytest
from rich.console import Console

from coldfusion_fl.run.events import RoundStarted, RunStarted
from coldfusion_fl.run.ledger import Ledger
from coldfusion_fl.run.model_card import model_card
from coldfusion_fl.run.records import ContributionRecord, RejectionRecord, RoundRecord, RoundSettings
from coldfusion_fl.run.report import score_table, summarize, write_report

MADE = RoundSettings(
    fusion="ties(density=0.2, scale=1)",
    server_optimizer="plain",
    ema=0,
    screening=["size(factor=5, least=0.01)"],
    exclude=[],
    max_rejections=3,
    seed=1,
    contributors_per_round=2,
    min_contributions=1,
    compression="float32",
    staleness_discount=0,
)


def scored(frozen, rows=200, seen=True, **more):
    return {
        "frozen": frozen,
        "metric": "accuracy",
        "head": "mean",
        "seen": seen,
        "num-examples": rows,
        **more,
    }


@pytest.fixture
def ledger(tmp_path):
    settings = {
        "base": "some/base",
        "seed": 1,
        "contributors-per-round": 2,
        "tasks": {"seen": ["a", "b"], "unseen": ["u"]},
        "evaluate": {"shots": 100},
    }
    ledger = Ledger.create(tmp_path / "run", settings)
    base = {"w": np.zeros(2, np.float32)}
    ledger.save_round(base, RoundRecord(round=0, base_sha256="f00"))
    ledger.save_scores(
        0,
        {"a": scored(50.0), "b": scored(60.0, rows=40), "u": scored(30.0, seen=False, **{"few-shot": 20.0})},
    )
    rejected = [RejectionRecord(name="b", reason="it lacks a weight")]
    fused = {"a": ContributionRecord(norm=1, share=1, reported={"seconds": 3.0})}
    times = {"began": 10.0, "trained": 15.0}
    ledger.save_round(base, RoundRecord(round=1, rejected=rejected, fused=True, contributions=fused, **times))
    ledger.save_round(base, RoundRecord(round=2, base_sha256="ba5", settings=MADE))
    ledger.save_scores(
        2,
        {"a": scored(54.0), "b": scored(50.0, rows=40), "u": scored(33.0, seen=False, **{"few-shot": 26.0})},
    )
    return ledger


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
    assert "The last evaluated base is from round 2." in console.export_text()
    assert "from round 2, the last evaluated base" in model_card(ledger)


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


def test_the_table_and_the_card_say_the_same(ledger):
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(score_table(summarize(ledger)))
    text = console.export_text()
    for part in ("50.0 → 54.0", "+4.0", "20.0 → 26.0", "b*", "fewer than 100 test rows", "head: mean"):
        assert part in text
    card = model_card(ledger)
    assert "| u | unseen | 30.0 | 33.0 | 20.0 | 26.0 |" in card
    assert "2 rounds from the base `some/base`" in card


def test_a_run_without_scores_has_an_empty_report(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    write_report(ledger)
    assert json.loads((ledger.folder / "report.json").read_text())["tasks"] == []
    assert not (ledger.folder / "scores.png").exists()
