"""The table of the benchmarks: ratios of two ways to do the same work, measured in turns."""

import json
import os
import platform
import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.table import Table

from coldfusion_fl.execution.display import plain_console


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        what: the work, done in this project's way.
        against: the other way.
        figures: one ratio, or number of seconds, for each turn.
        goal: the goal for the median, such as ">= 2.5" or "<= 1.08"; empty: no goal.
        unit: the unit of the figures, such as "times faster" or "s".
    """

    what: str
    against: str
    figures: list[float]
    goal: str
    unit: str

    @property
    def median(self) -> float:
        """The median of the figures."""
        return statistics.median(self.figures)

    @property
    def is_met(self) -> bool | None:
        """Whether the median meets the goal; None if there is no goal."""
        if not self.goal:
            return None
        sign, number = self.goal.split()
        return self.median >= float(number) if sign == ">=" else self.median <= float(number)


def print_table(rows: list[Row]) -> None:
    """Print the rows."""
    table = Table(title="Medians of several turns, and their spread", title_justify="left")
    for heading in ("what", "against", "median", "spread", "goal", ""):
        table.add_column(heading)
    for row in rows:
        met = {True: "met", False: "NOT MET", None: ""}[row.is_met]
        spread = f"{min(row.figures):.2f} to {max(row.figures):.2f}" if len(row.figures) > 1 else ""
        table.add_row(row.what, row.against, f"{row.median:.2f} {row.unit}", spread, row.goal, met)
    plain_console().print(table)


def write(rows: list[Row], details: Mapping[str, Any], file: Path) -> None:
    """Write the rows and the measurements behind them as JSON."""
    found = {
        "rows": [asdict(row) | {"median": row.median, "met": row.is_met} for row in rows],
        "details": details,
        "machine": {"cores": os.cpu_count(), "processor": platform.machine(), "python": platform.python_version()},
        "versions": {name: metadata.version(name) for name in ("torch", "transformers", "flwr", "ray", "numpy")},
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
