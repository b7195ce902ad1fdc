"""Intervals of the differences in a run, and what they say in words."""

import csv
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scored_runs import make_scored_run, scored

from coldfusion_fl.evaluation.intervals import interval
from coldfusion_fl.runs.intervals import mean_interval
from coldfusion_fl.runs.report import score_table, summarize, write_report

POINTS = st.floats(-100, 100)
ERRORS = st.floats(0, 50)


@pytest.fixture
def ledger(tmp_path):
    return make_scored_run(tmp_path / "run")


def compared(difference, error, rows_hash=""):
    low, high = interval(difference, error)
    return {"frozen-difference": difference, "frozen-low": low, "frozen-high": high, "test-rows-hash": rows_hash}


def with_errors(ledger, *scores, **facts):
    """Save scores of the first and the last round: name, seen, first and last score, error of the difference."""
    ledger.save_scores(0, {name: scored(first, seen=seen) for name, seen, first, _, _ in scores})
    ledger.save_scores(
        2,
        {
            name: scored(last, seen=seen, **({} if error is None else {"frozen-difference-error": error}), **facts)
            for name, seen, _, last, error in scores
        },
    )
    return summarize(ledger)


def sentences(summary):
    return [found["sentence"] for found in summary["verdict"]]


@given(st.lists(st.tuples(POINTS, ERRORS), min_size=1, max_size=20))
def test_the_errors_of_independent_tasks_are_added_in_squares(tasks):
    low, high = mean_interval([compared(*task) for task in tasks], "frozen")
    assert (low + high) / 2 == pytest.approx(sum(difference for difference, _ in tasks) / len(tasks), abs=1e-9)
    expected = 1.96 * math.sqrt(sum(error**2 for _, error in tasks)) / len(tasks)
    assert (high - low) / 2 == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.tuples(POINTS, ERRORS), min_size=2, max_size=9))
def test_tasks_with_the_same_test_rows_are_not_independent(tasks):
    same = mean_interval([compared(*task, rows_hash="ab") for task in tasks], "frozen")
    expected = 1.96 * sum(error for _, error in tasks) / len(tasks)
    assert (same[1] - same[0]) / 2 == pytest.approx(expected, abs=1e-9)


def test_a_mean_has_an_interval_only_if_every_task_has_one():
    assert mean_interval([compared(1.0, 1.0), compared(2.0, None)], "frozen") == (None, None)
    assert mean_interval([], "frozen") == (None, None)


def test_the_report_has_the_intervals_of_tasks_and_means(ledger):
    summary = with_errors(
        ledger, ("a", True, 50.0, 54.0, 1.0), ("b", True, 60.0, 62.0, 2.0), ("u", False, 30.0, 33.0, None)
    )
    rows = {row["task"]: row for row in summary["tasks"] + summary["means"]}
    assert (rows["a"]["frozen-low"], rows["a"]["frozen-high"]) == pytest.approx((4 - 1.96, 4 + 1.96))
    half = 1.96 * math.sqrt(5) / 2
    assert (rows["mean of seen tasks"]["frozen-low"], rows["mean of seen tasks"]["frozen-high"]) == pytest.approx(
        (3 - half, 3 + half)
    )
    assert rows["u"]["frozen-low"] is rows["mean of all tasks"]["frozen-low"] is rows["a"]["few-shot-low"] is None
    write_report(ledger)
    with (ledger.folder / "report.csv").open(newline="") as file:
        written = {row["task"]: row for row in csv.DictReader(file)}
    assert float(written["a"]["frozen-high"]) == pytest.approx(5.96)
    assert written["u"]["frozen-high"] == ""
    assert (ledger.folder / "scores.png").stat().st_size > 10_000


def test_scores_of_other_rows_have_no_interval(ledger):
    summary = with_errors(ledger, ("a", True, 50.0, 54.0, 1.0), head="class-token")
    assert summary["tasks"][0]["frozen-low"] is None


def test_the_history_has_the_mean_difference_of_each_evaluated_round(ledger):
    summary = with_errors(
        ledger, ("a", True, 50.0, 54.0, 1.0), ("b", True, 60.0, 62.0, 2.0), ("u", False, 30.0, 33.0, None)
    )
    first, last = summary["history"]
    assert first == {
        "round": 0,
        "seen": {"tasks": 2, "frozen": 55.0, "difference": 0.0, "low": 0.0, "high": 0.0},
        "unseen": {"tasks": 1, "frozen": 30.0, "difference": 0.0, "low": 0.0, "high": 0.0},
    }
    mean = next(row for row in summary["means"] if row["task"] == "mean of seen tasks")
    assert last["seen"] == {
        "tasks": 2, "frozen": 58.0, "difference": 3.0, "low": mean["frozen-low"], "high": mean["frozen-high"],
    }  # fmt: skip
    assert last["unseen"] == {"tasks": 1, "frozen": 33.0, "difference": 3.0, "low": None, "high": None}


def test_the_history_lacks_what_cannot_be_compared(ledger):
    (ledger.round_folder(0) / "scores.json").unlink()
    assert summarize(ledger)["history"] == [{"round": 2, "seen": None, "unseen": None}]


def test_the_verdict_names_what_is_better_and_what_fell(ledger):
    summary = with_errors(
        ledger,
        ("a", True, 50.0, 56.0, 1.0),
        ("tv_speakers", True, 60.0, 58.0, 0.9),
        ("u", False, 30.0, 30.8, 1.0),
    )
    assert summary["verdict"] == [
        {"outcome": "better", "sentence": "Better on the 2 seen tasks: +2.0 points [+0.7, +3.3] frozen."},
        {
            "outcome": "same",
            "sentence": "No difference beyond chance on the unseen task: +0.8 points [−1.2, +2.8] frozen.",
        },
        {"outcome": "worse", "sentence": "Worse on tv_speakers: −2.0 points [−3.8, −0.2] frozen."},
    ]


def test_the_verdict_says_that_there_is_no_interval(ledger):
    assert sentences(summarize(ledger)) == [
        "On the 2 seen tasks: −3.0 points frozen, without an interval, so it may be chance.",
        "On the unseen task: +3.0 points frozen, without an interval, so it may be chance.",
        "On the unseen task: +6.0 points few-shot, without an interval, so it may be chance.",
    ]


def test_many_falls_are_one_sentence_with_the_worst_first(ledger):
    fell = [(f"t{number}", True, 50.0, 49.0 - number, 0.1) for number in range(8)]
    last = sentences(with_errors(ledger, *fell))[-1]
    assert last.startswith("Worse on 8 tasks, frozen: t7 −8.0 points [−8.2, −7.8]; t6 ")
    assert last.endswith("; and 3 more.")


def test_the_table_has_intervals_and_says_what_they_cover(ledger):
    console = Console(width=140, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(score_table(with_errors(ledger, ("a", True, 50.0, 54.0, 1.0))))
    text = " ".join(console.export_text().split())
    assert "+4.0 │ [+2.0, +6.0]" in text
    assert "95 %" in text
    assert "not other seeds or other tasks" in text


@pytest.mark.parametrize(
    ("width", "there", "missing"),
    [
        (160, ["metric", "50.0 → 54.0", "[+2.0, +6.0]", "few-shot"], []),
        (100, ["50.0 → 54.0", "[+2.0, +6.0]"], ["metric"]),
        (80, ["[+2.0, +6.0]", "frozen Δ"], ["metric", "54.0"]),
        (50, ["+4.0", "few-shot Δ"], ["metric", "54.0", "[+2.0"]),
    ],
)
def test_a_narrow_table_leaves_out_the_less_important_columns(ledger, width, there, missing):
    error = {f"{mode}-difference-error": 1.0 for mode in ("frozen", "few-shot")}
    ledger.save_scores(0, {"a": scored(50.0), "u": scored(30.0, seen=False, **{"few-shot": 20.0})})
    ledger.save_scores(2, {"a": scored(54.0, **error), "u": scored(33.0, seen=False, **{"few-shot": 26.0}, **error)})
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(score_table(summarize(ledger), width))
    text = console.export_text()
    assert all(part in text for part in there)
    assert not any(part in text for part in missing)
    assert "…" not in text  # no number is cut
    assert all(len(line) <= width for line in text.splitlines())
