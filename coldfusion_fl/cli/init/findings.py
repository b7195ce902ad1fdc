"""What `coldfusion init` prints of the tables."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from coldfusion_fl.cli.app import console, print_line
from coldfusion_fl.cli.init.decisions import Decision
from coldfusion_fl.errors import count

if TYPE_CHECKING:
    from coldfusion_fl.data.task import Task

_SHOWN_COLUMNS = 12


def print_findings(name: str, decision: Decision, task: "Task") -> None:
    """Print what was found in the tables of a task, and what was decided."""
    table = decision.table
    console.print()
    print_line(f"{table.source.shown}: task '{name}'")
    lines = [
        f"columns: {_columns(decision)}",
        *decision.lines,
        *task.report.lines(),
        task.describe()[0],
        f"words of a text: {_lengths([len(text.split()) for text in task.train.texts])}",
        *_duplicates(task),
        *([f"not used: {', '.join(table.source.unused)}"] if table.source.unused and not task.report.unused else []),
    ]
    for line in lines:
        print_line(f"  {line}")


def describe_tokens(lengths: np.ndarray) -> str:
    """The numbers of tokens of texts, in a sentence's clause."""
    return f"tokens of a text: {_lengths(lengths.tolist())}"


def _columns(decision: Decision) -> str:
    columns = decision.table.columns
    shown = ", ".join(column.name + (f" ({column.empty:,} empty)" if column.empty else "") for column in columns)
    if len(columns) > _SHOWN_COLUMNS:
        shown = (
            ", ".join(column.name for column in columns[:_SHOWN_COLUMNS]) + f" and {len(columns) - _SHOWN_COLUMNS} more"
        )
    return shown


def _lengths(lengths: Sequence[int]) -> str:
    median, most = np.quantile(lengths, [0.5, 0.95])
    return f"median {median:.0f}, 95 % have at most {most:.0f}, the longest has {max(lengths):,}"


def _duplicates(task: "Task") -> list[str]:
    """A line on train rows with equal texts; where a split was split off, they are left out and reported already."""
    rows = list(zip(task.train.texts, task.train.pairs or task.train.texts, strict=True))
    twice = len(rows) - len(set(rows))
    return [f"{count(twice, 'train row')} with the text of another one"] if twice else []
