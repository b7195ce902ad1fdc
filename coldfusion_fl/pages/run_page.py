"""`report.html` of a run folder: the verdict, the scores, the contributions, settings, timings and the machine."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from coldfusion_fl.config.tables import flatten
from coldfusion_fl.errors import count
from coldfusion_fl.formatting import MISSING, text
from coldfusion_fl.pages import contributions
from coldfusion_fl.pages.charts import Chart, Curve, line_chart, point, whiskers
from coldfusion_fl.pages.rendering import has_templates, render
from coldfusion_fl.runs.integrity.reading import read_consistently
from coldfusion_fl.runs.intervals import SCORED
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.lineage import lineage
from coldfusion_fl.runs.report import notes, summarize
from coldfusion_fl.runs.state import RunState

NAME = "report.html"
_ROLES = ("seen", "unseen")
_log = logging.getLogger(__name__)
# The same chart for a wide and for a narrow window: letters keep their size.
_SIZES = ((880, 320), (350, 260))


def write_run_page(ledger: Ledger) -> None:
    """Write `report.html` into the run folder.

    Raises:
        RunFolderError: the folder holds no run, or is damaged or cannot be written.
    """
    page = run_page(ledger)
    with ledger.writing(NAME) as path:
        path.write_text(page, encoding="utf-8")


def write_page_of_finished_run(ledger: Ledger) -> None:
    """Write `report.html` of a run whose model is written: no error of the page may fail it, so errors are logged."""
    if not has_templates():  # an app bundle has no files of their kinds
        _log.warning(
            "%s is not written: this copy of the package has no templates. Write it with: coldfusion report %s",
            NAME,
            ledger.folder,
        )
        return
    try:
        write_run_page(ledger)
    except Exception:
        _log.warning("%s could not be written; the results are complete without it.", NAME, exc_info=True)


def run_page(ledger: Ledger) -> str:
    """The report of a run as HTML, of its saved rounds.

    Raises:
        RunFolderError: the folder holds no run, or is damaged.
    """
    summary, bases = read_consistently(ledger, lambda: (summarize(ledger), lineage(ledger)))
    state, settings = ledger.state, ledger.settings
    rows = contributions.contribution_rows([base.record for base in bases])
    rounds = contributions.round_rows(bases)
    return render(
        "run.html",
        "tables.js",
        folder=ledger.folder.resolve().name,
        shots=settings.get("evaluate", {}).get("shots", 0),
        lead=_lead(state, rounds, settings),
        verdict=_verdict(summary),
        key_numbers=_key_numbers(summary, rows),
        charts=_charts(summary),
        roles=[role for role in _ROLES if any(entry[role] for entry in summary["history"])],
        history=summary["history"],
        tasks=_with_whiskers(summary),
        means=[row for row in summary["means"] if any(row[f"{mode}-difference"] is not None for mode in SCORED)],
        modes=[mode for mode in SCORED if any(row[f"{mode}-fused"] is not None for row in summary["tasks"])],
        notes=notes(summary),
        rounds=rounds,
        rows=rows[: contributions.MAX_ROWS],
        rows_left_out=max(0, len(rows) - contributions.MAX_ROWS),
        contributors=contributions.contributors(rows),
        columns=[row["round"] for row in rounds if row["round"]][-contributions.MAX_ROUNDS :],
        signs=contributions.SIGNS,
        rejections=[row for row in rows if row.reason],
        privacy=summary["privacy"],
        settings={key: _setting(value) for key, value in flatten(settings).items()},
        seconds=summary["seconds"],
        memory=state.peak_memory_bytes,
        machines=ledger.machines,
        is_federation=bool(ledger.federation),
        software=ledger.versions,
        run_id=ledger.run_id,
    )


def _lead(state: RunState, rounds: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """How far the run came. A run writes its report before its state is `finished`, so the rounds are compared."""
    done, wanted = max((row["round"] for row in rounds), default=0), settings.get("rounds")
    if wanted is None:
        return count(done, "round")
    if isinstance(wanted, int) and done >= wanted:
        return "The only round is done" if done == 1 else f"All {done} rounds are done"
    reason = f": {text(state.reason)}" if state.reason else ""
    return f"{done} of {wanted} rounds are done; the state of the run is “{state.state}”{reason}"


def _verdict(summary: Mapping[str, Any]) -> list[str]:
    sentences = [text(found["sentence"]) for found in summary["verdict"]]
    return sentences or ["The run has no scores that can be compared."]


def _key_numbers(summary: Mapping[str, Any], rows: Sequence[contributions.ContributionRow]) -> list[dict[str, Any]]:
    """The key numbers: means of the differences, and what became of the contributions."""
    found: list[dict[str, Any]] = []
    for row in summary["means"][:2]:
        for mode in SCORED:
            difference = row[f"{mode}-difference"]
            if difference is not None:
                ends = row[f"{mode}-low"], row[f"{mode}-high"]
                name = row["task"].removeprefix("mean of ")
                found.append({"name": f"{name}, {mode}", "points": difference, "low": ends[0], "high": ends[1]})
    fused, rejected = (sum(row.outcome == outcome for row in rows) for outcome in ("fused", "rejected"))
    excluded = len({row.name for row in rows if row.outcome == "excluded"})
    more = f"{rejected:,} rejected" + (f"; {count(excluded, 'contributor')} excluded" if excluded else "")
    found.append({"name": "contributions", "text": f"{fused:,} fused", "more": more})
    return found


def _charts(summary: Mapping[str, Any]) -> list[Chart]:
    curves = _curves(summary)
    return [chart for width, height in _SIZES if (chart := line_chart(curves, width, height))]


def _curves(summary: Mapping[str, Any]) -> list[Curve]:
    """Each task's gain over the first base, thin, and the means of the seen and of the unseen tasks, bold."""
    thin = []
    for row in summary["tasks"]:
        scores = {number: found.get(row["task"]) for number, found in summary["rounds"].items()}
        gains = {
            int(number): score - row["frozen-base"]
            for number, score in scores.items()
            if score is not None and row["frozen-difference"] is not None
        }
        points = [found for number in sorted(gains) if (found := point(number, gains[number]))]
        thin.append(Curve(text(row["task"], 60), _role(row), points, is_mean=False))
    bold = []
    for role in _ROLES:
        means = {entry["round"]: entry[role] for entry in summary["history"] if entry[role]}
        points = [
            found
            for number, mean in means.items()
            if (found := point(number, mean["difference"], mean["low"], mean["high"]))
        ]
        bold.append(Curve(role, role, points))
    return thin + bold


def _role(row: Mapping[str, Any]) -> str:
    return _ROLES[0] if row["seen"] else _ROLES[1]


def _with_whiskers(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = summary["tasks"]
    drawn = {mode: whiskers(rows, mode) for mode in SCORED}
    return [row | {f"{mode}-whisker": drawn[mode][place] for mode in SCORED} for place, row in enumerate(rows)]


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(text, value)) or MISSING
    return text(value) or MISSING
