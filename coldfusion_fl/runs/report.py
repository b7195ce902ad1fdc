"""The report of a run: scores as a table, CSV, JSON and a figure."""

import csv
import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from coldfusion_fl import formatting
from coldfusion_fl.atomic_files import remove
from coldfusion_fl.evaluation.intervals import INTERVAL_NOTE, TINY, interval
from coldfusion_fl.evaluation.reported_scores import DIFFERENCE_ERROR
from coldfusion_fl.runs.events import EvaluationFinished, EvaluationStarted, Event, RunStarted
from coldfusion_fl.runs.intervals import SCORED, mean_interval, verdict
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.records import RoundRecord
from coldfusion_fl.sanitize import neutralize_formula

# What two scores of a task must have in common to be compared, and its name in messages.
_ALIKE = {"test-rows-hash": "test rows", "num-examples": "test rows", "metric": "metric", "head": "head"}
_ANY_WIDTH, _NAME_WIDTH = 10_000, 20
_COLUMNS = (
    "task",
    "seen",
    "metric",
    "head",
    "test-rows",
    *(f"{mode}-{which}" for mode in SCORED for which in ("base", "fused", "difference", "low", "high")),
    "test-rows-hash",
    "differs",
)


def summarize(ledger: Ledger, until: int | None = None) -> dict[str, Any]:
    """Compare the first base with the result of the last evaluated round, by task, and collect all scores.

    Args:
        ledger: the run.
        until: the last round to take into account; None: all.

    Returns:
        `tasks`: one row per task with the keys of the CSV, None where there is no score. `differs` names what the two
            scores do not have in common; they then have no difference. `low` and `high` are the ends of the 95 %
            interval of the difference; None where the node reported no standard error.
        `means`: rows with the same keys, over the tasks that have a difference.
        `verdict`: what the differences show, in words: see `intervals.verdict`.
        `rounds`: the frozen scores after every evaluated round, by round and task.
        `history`: the mean frozen difference after every evaluated round: see `_history`.
        `evaluated`: the rounds whose scores are compared, and the last round; None where the first base has no scores.
        `kept`: the rounds that kept their base, with the reason.
        `rejected`: the rejections, with round, name and reason.
        `excluded`: who was connected and took no part in a round, with round, name and reason.
        `seconds`: durations, see `_seconds`.
        `privacy`: the privacy loss; None where the fusion is not private.
    """
    rounds = [number for number in ledger.rounds() if until is None or number <= until]
    records = [ledger.record(number) for number in rounds]
    scores = {number: ledger.load_scores(number) for number in rounds}
    evaluated = {number: found for number, found in scores.items() if found}
    last = max(evaluated, default=0)
    base, fused = evaluated.get(0, {}), evaluated.get(last, {}) if last else {}
    rows = [_row(name, base.get(name, {}), fused.get(name, {})) for name in base.keys() | fused.keys()]
    rows.sort(key=lambda row: (not row["seen"], row["task"]))
    means = _means(rows)
    return {
        "tasks": rows,
        "means": means,
        "verdict": [dataclasses.asdict(found) for found in verdict(rows, means)],
        "rounds": {number: {name: s.get("frozen") for name, s in found.items()} for number, found in evaluated.items()},
        "history": _history(evaluated),
        "evaluated": {"base": 0 if base else None, "fused": last, "last-round": max(scores, default=0)},
        "kept": [{"round": r.round, "reason": r.kept_because or ""} for r in records if r.round and not r.fused],
        "rejected": _rejected(records),
        "excluded": _excluded(records),
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
        "test-rows-hash": about.get("test-rows-hash", ""),
        "differs": (differs := _differs(base, fused)),
    }
    for mode in SCORED:
        before, after = base.get(mode), fused.get(mode)
        difference = None if before is None or after is None or differs else after - before
        low, high = interval(difference, fused.get(mode + DIFFERENCE_ERROR))
        row |= _numbers(mode, before, after, difference, low, high)
    return row


def _numbers(mode: str, *values: float | None) -> dict[str, float | None]:
    """The numbers of a mode in a row: the two scores, their difference, and its interval."""
    names = ("base", "fused", "difference", "low", "high")
    return {f"{mode}-{name}": value for name, value in zip(names, values, strict=True)}


def _differs(base: dict[str, Any], fused: dict[str, Any]) -> str:
    """What two scores of a task do not have in common, such as their test rows; a fact that one lacks is unknown."""
    there = [key for key in _ALIKE if key in base and key in fused]
    return ", ".join(dict.fromkeys(_ALIKE[key] for key in there if base[key] != fused[key]))


def _means(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    seen = [row for row in rows if row["seen"]]
    groups = [("mean of seen tasks", seen), ("mean of unseen tasks", [row for row in rows if not row["seen"]])]
    big = [row for row in rows if row["test-rows"] >= TINY]
    groups.append(("mean of all tasks", list(rows)))
    if 0 < len(big) < len(rows):
        groups.append((f"mean of tasks with at least {TINY} test rows", big))
    return [_mean(name, group) for name, group in groups if group]


def _mean(name: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    numbers: dict[str, float | None] = {}
    for mode in SCORED:
        both = [row for row in rows if row[f"{mode}-difference"] is not None]
        columns = [[row[f"{mode}-{which}"] for row in both] for which in ("base", "fused", "difference")]
        means = [sum(column) / len(column) if column else None for column in columns]
        numbers |= _numbers(mode, *means, *mean_interval(both, mode))
    return {"task": name, "seen": "", "metric": "", "head": "", "test-rows": "", **numbers}


def _history(evaluated: Mapping[int, Mapping[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """The mean frozen scores after every evaluated round, and their differences to the first base.

    Returns:
        For each round, `round`, `seen` and `unseen`. The last two have, over the tasks that can be compared with the
        first base, the number of `tasks`, and the means `frozen`, `difference`, `low` and `high`; or they are None.
    """
    history = []
    for number, found in sorted(evaluated.items()):
        rows = [_row(name, evaluated.get(0, {}).get(name, {}), scores) for name, scores in found.items()]
        rows = [row for row in rows if row["frozen-difference"] is not None]
        if number == 0:
            rows = [row | {"frozen-low": 0.0, "frozen-high": 0.0} for row in rows]
        seen, unseen = ([row for row in rows if row["seen"] is is_seen] for is_seen in (True, False))
        history.append({"round": number, "seen": _mean_frozen(seen), "unseen": _mean_frozen(unseen)})
    return history


def _mean_frozen(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    if not rows:
        return None
    mean = _mean("", rows)
    columns = {"frozen": "fused", "difference": "difference", "low": "low", "high": "high"}
    return {"tasks": len(rows)} | {key: mean[f"frozen-{column}"] for key, column in columns.items()}


def _rejected(records: Sequence[RoundRecord]) -> list[dict[str, Any]]:
    return [
        {"round": record.round, "name": rejection.name, "reason": rejection.reason}
        for record in records
        for rejection in record.rejected
    ]


def _excluded(records: Sequence[RoundRecord]) -> list[dict[str, Any]]:
    return [
        {"round": record.round, "name": name, "reason": reason}
        for record in records
        for name, reason in sorted(record.excluded.items())
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
    """Write report.json and, where the run has scores, report.csv and scores.png into the run folder."""
    summary = summarize(ledger)
    with ledger.writing("report.json") as path:
        path.write_text(json.dumps(summary, indent=1), encoding="utf-8")
    if summary["tasks"]:
        with ledger.writing("report.csv") as path, path.open("w", newline="", encoding="utf-8") as file:
            table = csv.DictWriter(file, _COLUMNS)
            table.writeheader()
            for row in summary["tasks"] + summary["means"]:
                table.writerow({key: neutralize_formula(cell) for key, cell in row.items()})
    if any(row["frozen-difference"] is not None for row in summary["tasks"]):
        from coldfusion_fl.runs.figures import draw_scores

        with ledger.writing("scores.png") as path:
            draw_scores(summary, path)
    else:
        remove(ledger.folder / "scores.png")  # the figure of an earlier end of this run


def score_table(summary: dict[str, Any], width: int | None = None) -> Table:
    """The scores for a terminal; there are some.

    Args:
        summary: as `summarize` returns it.
        width: of the terminal. Where not all columns fit, the less important ones are left out: first the metric, then
            the scores, then the intervals. None: all columns.
    """
    table = _score_table(summary, ())
    for left_out in (("metric",), ("metric", "scores"), ("metric", "scores", "interval")):
        if width is None or _width_with_wrapped_names(table, summary) <= width:
            break
        table = _score_table(summary, left_out)
    return table


def _width_with_wrapped_names(table: Table, summary: dict[str, Any]) -> int:
    """The width that a table needs if long names of tasks are wrapped, as Rich then does."""
    names = max(cell_len(row["task"]) for row in summary["tasks"] + summary["means"])
    return Console(width=_ANY_WIDTH).measure(table).maximum - max(0, names - _NAME_WIDTH)


def _score_table(summary: dict[str, Any], left_out: Sequence[str]) -> Table:
    """The table without some columns. Only the names of tasks are wrapped."""
    what = "difference to the first base" if "scores" in left_out else "first base → fused"
    table = Table(title=f"Test scores in points, {what}", title_justify="left")
    table.add_column("task")
    if "metric" not in left_out:
        table.add_column("metric", no_wrap=True)
    rows = summary["tasks"] + summary["means"]
    modes = [mode for mode in SCORED if any(_scores(row, mode) for row in summary["tasks"])]
    with_interval = {mode for mode in modes if any(row[f"{mode}-low"] is not None for row in rows)}
    shown = {mode: _columns(mode, [*left_out, *([] if mode in with_interval else ["interval"])]) for mode in modes}
    for columns in shown.values():
        for column in columns.values():
            table.add_column(column, justify="right", no_wrap=True)
    # Seen and unseen tasks stand apart, because only the unseen ones show what the base has learnt for others.
    roles = {True: "seen", False: "unseen"}
    previous: Any = None
    for row in rows:
        group = roles.get(row["seen"], "means")
        if group != previous:
            table.add_section()
            table.add_row(f"[bold]{group}")
            previous = group
        cells = [cell for mode in modes for kind, cell in _cells(row, mode).items() if kind in shown[mode]]
        if "metric" not in left_out:
            cells = [Text(row["metric"]), *cells]
        tiny = "*" if isinstance(row["test-rows"], int) and row["test-rows"] < TINY else ""
        marks = tiny + ("†" if row.get("differs") else "")
        table.add_row(f"  {escape(row['task'])}{marks}", *cells)
    heads = ", ".join(sorted({row["head"] for row in summary["tasks"]}))
    tiny_note = [f"* fewer than {TINY} test rows."] if any(r["test-rows"] < TINY for r in summary["tasks"]) else []
    table.caption = escape("  ".join([f"head: {heads}.", *tiny_note, *notes(summary)]))
    table.caption_justify = "left"
    return table


def notes(summary: dict[str, Any]) -> list[str]:
    """Sentences on what the scores lack: those of the first base, those of the last round, or the same test rows."""
    evaluated, rows, found = summary["evaluated"], summary["tasks"], []
    if not rows:
        return []
    if evaluated["base"] is None:
        found.append("The first base has no scores.")
    if evaluated["fused"] != evaluated["last-round"]:
        found.append(f"The last scores are of round {evaluated['fused']} of {evaluated['last-round']}.")
    if any(row[f"{mode}-low"] is not None for row in rows for mode in SCORED):
        found.append(INTERVAL_NOTE)
    if differs := sorted({row["differs"] for row in rows if row["differs"]}):
        names = " or ".join(differs)
        found.append(f"† the two scores are of other {names}, and cannot be compared. They are in no mean.")
    return found


def _columns(mode: str, left_out: Sequence[str]) -> dict[str, str]:
    """The titles of a mode's columns, by what is in them."""
    difference = f"{mode} Δ" if "scores" in left_out else "Δ"
    columns = {"scores": mode, "difference": difference, "interval": "95 %"}
    return {kind: title for kind, title in columns.items() if kind not in left_out}


def _cells(row: dict[str, Any], mode: str) -> dict[str, Text]:
    """The scores, their difference, with a colour unless it may be chance, and its interval."""
    difference, low, high = (row[f"{mode}-{which}"] for which in ("difference", "low", "high"))
    written = "" if difference is None else formatting.number(difference, signed=True)
    ends = (difference, difference) if low is None else (low, high)
    colour = "" if difference is None else "green" if ends[0] > 0 else "red" if ends[1] < 0 else ""
    interval_text = Text(formatting.interval(low, high))
    return {"scores": Text(_scores(row, mode)), "difference": Text(written, style=colour), "interval": interval_text}


def _scores(row: dict[str, Any], mode: str) -> str:
    before, after = row[f"{mode}-base"], row[f"{mode}-fused"]
    return "" if before is None and after is None else f"{_points(before)} → {_points(after)}"


def _points(score: float | None) -> str:
    return "?" if score is None else f"{score:.1f}"
