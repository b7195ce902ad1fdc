"""The report of a run: scores as a table, CSV, JSON and a figure."""

import csv
import itertools
import json
from collections.abc import Sequence
from typing import Any

from rich.markup import escape
from rich.table import Table

from coldfusion_fl.run.events import EvaluationFinished, EvaluationStarted, Event, RunStarted
from coldfusion_fl.run.ledger import Ledger
from coldfusion_fl.run.records import RoundRecord

# With fewer test rows one answer moves a score by a point or more.
TINY = 100
# The scores that a run computes; the finetuned score would take a whole training for each task.
SCORED = ("frozen", "few-shot")
_COLUMNS = (
    "task",
    "seen",
    "metric",
    "head",
    "test-rows",
    *(f"{mode}-{which}" for mode in SCORED for which in ("base", "fused", "difference")),
)


def summarize(ledger: Ledger) -> dict[str, Any]:
    """Compare the first base with the last evaluated one, by task, and collect the scores over the rounds.

    Returns:
        `tasks`: one row per task with the keys of the CSV, None where a base was not evaluated on it.
        `means`: rows with the same keys, over the tasks that have both scores.
        `rounds`: the frozen scores of every evaluated base, by round and task.
        `evaluated`: the rounds whose bases are compared, and the last round.
        `rejected`: the rejections, with round, name and reason.
        `seconds`: durations, see `_seconds`.
        `privacy`: the privacy loss; None where the fusion is not private.
    """
    records = ledger.records()
    scores = {number: ledger.load_scores(number) for number in ledger.rounds()}
    evaluated = {number: found for number, found in scores.items() if found}
    first, last = (min(evaluated), max(evaluated)) if evaluated else (0, 0)
    base, fused = evaluated.get(first, {}), evaluated.get(last, {}) if last else {}
    rows = [_row(name, base.get(name, {}), fused.get(name, {})) for name in base.keys() | fused.keys()]
    rows.sort(key=lambda row: (not row["seen"], row["task"]))
    return {
        "tasks": rows,
        "means": _means(rows),
        "rounds": {number: {name: s.get("frozen") for name, s in found.items()} for number, found in evaluated.items()},
        "evaluated": {"base": first, "fused": last, "last-round": max(scores, default=0)},
        "rejected": _rejected(records),
        "seconds": _seconds(records, ledger.events()),
        "privacy": next((record.privacy.to_json() for record in reversed(records) if record.privacy), None),
    }


def _row(name: str, base: dict[str, Any], fused: dict[str, Any]) -> dict[str, Any]:
    about = fused or base
    row = {
        "task": name,
        "seen": about.get("seen", True),
        "metric": about.get("metric", ""),
        "head": about.get("head", ""),
        "test-rows": about.get("num-examples", 0),
    }
    for mode in SCORED:
        before, after = base.get(mode), fused.get(mode)
        row |= {
            f"{mode}-base": before,
            f"{mode}-fused": after,
            f"{mode}-difference": None if before is None or after is None else after - before,
        }
    return row


def _means(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    seen = [row for row in rows if row["seen"]]
    groups = [("mean of seen tasks", seen), ("mean of unseen tasks", [row for row in rows if not row["seen"]])]
    big = [row for row in rows if row["test-rows"] >= TINY]
    groups.append(("mean of all tasks", list(rows)))
    if 0 < len(big) < len(rows):
        groups.append((f"mean of tasks with at least {TINY} test rows", big))
    return [_mean(name, group) for name, group in groups if group]


def _mean(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    numbers = {}
    for mode in SCORED:
        both = [row for row in rows if row[f"{mode}-difference"] is not None]
        for column in (f"{mode}-base", f"{mode}-fused", f"{mode}-difference"):
            numbers[column] = sum(row[column] for row in both) / len(both) if both else None
    return {"task": name, "seen": "", "metric": "", "head": "", "test-rows": "", **numbers}


def _rejected(records: Sequence[RoundRecord]) -> list[dict[str, Any]]:
    return [
        {"round": record.round, "name": rejection.name, "reason": rejection.reason}
        for record in records
        for rejection in record.rejected
    ]


def _seconds(records: Sequence[RoundRecord], events: Sequence[Event]) -> dict[str, float]:
    """Durations, in seconds.

    Returns:
        `rounds`: of the training rounds; `evaluations`: of the evaluations; `contributors`: of the contributors'
        trainings, added up; `total`: from the command to the last event, without the time between a stop and a resume.
    """
    # Summed from event to event: a run that was stopped and resumed has gaps in which nothing ran.
    total = evaluations = 0.0
    started: EvaluationStarted | None = None
    for previous, event in itertools.pairwise(events):
        if not isinstance(event, RunStarted):
            total += event.time - previous.time
        if isinstance(event, EvaluationStarted):
            started = event
        if isinstance(event, EvaluationFinished) and started and started.round == event.round:
            evaluations += event.time - started.time
    contributions = [c for record in records for c in record.contributions.values()]
    return {
        "rounds": sum(record.trained - record.began for record in records if record.trained and record.began),
        "evaluations": evaluations,
        "contributors": sum(contribution.reported.get("seconds", 0.0) for contribution in contributions),
        "total": total,
    }


def write_report(ledger: Ledger) -> None:
    """Write report.json, report.csv and scores.png into the run folder."""
    summary = summarize(ledger)
    with ledger.writing("report.json") as path:
        path.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    with ledger.writing("report.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, _COLUMNS)
        table.writeheader()
        table.writerows(summary["tasks"] + summary["means"])
    if summary["rounds"]:
        from coldfusion_fl.run.figures import draw_scores

        with ledger.writing("scores.png") as path:
            draw_scores(summary, path)


def score_table(summary: dict[str, Any]) -> Table:
    """The report for a terminal."""
    table = Table(title="Test scores in points, first base → fused", title_justify="left")
    table.add_column("task")
    table.add_column("metric")
    for mode in SCORED:
        table.add_column(mode, justify="right")
        table.add_column("Δ", justify="right")
    # Seen and unseen tasks stand apart, because only the unseen ones show what the base has learnt for others.
    roles = {True: "seen", False: "unseen"}
    previous: Any = None
    for row in summary["tasks"] + summary["means"]:
        group = roles.get(row["seen"], "means")
        if group != previous:
            table.add_section()
            table.add_row(f"[bold]{group}")
            previous = group
        cells = [cell for mode in SCORED for cell in _cells(row, mode)]
        tiny = "*" if isinstance(row["test-rows"], int) and row["test-rows"] < TINY else ""
        table.add_row(f"  {escape(row['task'])}{tiny}", escape(row["metric"]), *cells)
    heads = escape(", ".join(sorted({row["head"] for row in summary["tasks"]})))
    tiny_note = f"  * fewer than {TINY} test rows." if any(r["test-rows"] < TINY for r in summary["tasks"]) else ""
    evaluated = summary["evaluated"]
    old = evaluated["fused"] != evaluated["last-round"]
    old_note = f"  The last evaluated base is from round {evaluated['fused']}." if old else ""
    table.caption = f"head: {heads}.{tiny_note}{old_note}"
    table.caption_justify = "left"
    return table


def _cells(row: dict[str, Any], mode: str) -> tuple[str, str]:
    before, after, difference = (row[f"{mode}-{which}"] for which in ("base", "fused", "difference"))
    if difference is None:
        there = [score for score in (before, after) if score is not None]
        return (f"{before:.1f} → ?" if after is None and there else f"? → {after:.1f}" if there else ""), ""
    colour = "green" if difference > 0 else "red" if difference < 0 else "white"
    return f"{before:.1f} → {after:.1f}", f"[{colour}]{difference:+.1f}"
