"""A comparison of models as a table for the terminal, as sentences and as CSV."""

import csv
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from coldfusion_fl import formatting
from coldfusion_fl.evaluation.comparison_rows import COLUMNS, comparison_rows, name_of_mean, rows_of_task
from coldfusion_fl.evaluation.intervals import INTERVAL_NOTE
from coldfusion_fl.sanitize import neutralize_formula, sanitize

if TYPE_CHECKING:
    from coldfusion_fl.evaluation.comparison import Comparison

_COLOURS = {"better": "green", "worse": "red"}


def comparison_table(comparison: "Comparison") -> Table:
    """The scores on each task and their means, with the differences from the first model."""
    title = f"{comparison.mode} test scores in points, head: {comparison.head}"
    table = Table(title=Text(title), title_justify="left")
    table.add_column("task")
    table.add_column("model", overflow="fold")
    for column in ("score", "difference", "95 %"):
        table.add_column(column, justify="right", no_wrap=True)
    for task in comparison.tasks:
        about = (task.task, task.metric, f"{task.test_examples:,} of {task.test_split:,} rows")
        _add_section(table, about, task.baseline, rows_of_task(comparison, task.task, task.scores))
    if comparison.means:
        _add_section(
            table,
            (name_of_mean(comparison),),
            comparison.means.baseline,
            rows_of_task(comparison, None, comparison.means.scores),
        )
    return table


def _add_section(table: Table, about: Sequence[str], baseline: float, rows: Sequence[dict[str, Any]]) -> None:
    """Add the baseline and all models on a task; the first column says in the same lines what the task is."""
    table.add_section()
    cells = [[Text("baseline"), Text(formatting.number(baseline)), Text(), Text()]]
    cells += [[Text(sanitize(row["model"])), Text(formatting.number(row["score"])), *_difference(row)] for row in rows]
    for number, row_cells in enumerate(cells):
        table.add_row(Text(sanitize(about[number])) if number < len(about) else "", *row_cells)


def _difference(row: dict[str, Any]) -> list[Text]:
    """A difference, with a colour unless it may be chance, and its interval; of the reference, nothing."""
    if row["difference"] is None:
        return [Text("reference", style="dim"), Text()]
    shown = formatting.number(row["difference"], signed=True)
    return [Text(shown, style=_COLOURS.get(row["outcome"], "")), Text(formatting.interval(row["low"], row["high"]))]


def verdict_lines(comparison: "Comparison") -> list[str]:
    """What the differences show, for each model and task, and what limits the comparison."""
    reference, *others = (model.model for model in comparison.models)
    lines = []
    for model in others:
        lines += ["", f"{model}, compared with {reference}:"]
        for one in comparison.differences:
            if one.model == model:
                lines.append(f"  {one.task or name_of_mean(comparison)}: {one.verdict}")
    return [*lines, "", *comparison.notes, INTERVAL_NOTE]


def comparison_csv(comparison: "Comparison") -> str:
    """A row for each task and model, and then for the means over several tasks; the first line names the columns."""
    file = io.StringIO(newline="")
    table = csv.DictWriter(file, COLUMNS)
    table.writeheader()
    for row in comparison_rows(comparison):
        table.writerow({key: neutralize_formula(cell) for key, cell in row.items()})
    return file.getvalue()
