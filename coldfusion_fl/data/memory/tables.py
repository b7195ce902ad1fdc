"""Tasks of rows in memory: DataFrames, data sets of the library `datasets`, and lists of dicts."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd

from coldfusion_fl.data.catalogue import SPLITS, TaskSpec, parse_task
from coldfusion_fl.data.columns import quote_names
from coldfusion_fl.data.report import ReadReport, SplitReport
from coldfusion_fl.data.rows import dataset_table
from coldfusion_fl.data.task import Task, build_task
from coldfusion_fl.errors import DataError, ErrorCode

# Rows: a DataFrame, a `datasets.Dataset`, anything else with `to_pandas`, or dicts.
Table: TypeAlias = pd.DataFrame | Iterable[Mapping[str, Any]]
# Rows of train, or tables by split.
Tables: TypeAlias = Table | Mapping[str, Any]

_LABELS = ("label", "labels", "class", "category", "target")
_log = logging.getLogger("coldfusion_fl")


def task_from_tables(
    rows: Tables,
    name: str,
    text: str | Sequence[str] | None = None,
    label: str | None = None,
    labels: Mapping[str, str] | None = None,
    metric: str = "accuracy",
) -> Task:
    """See `Task.from_dataframe`."""
    source = f"task '{name}'"
    if not name or not isinstance(name, str):
        raise DataError(f"a task needs a name, which is a text, but it is {name!r}.")
    report = ReadReport()
    try:
        tables = _split_tables(rows)
        train = _to_frame(tables["train"], label or "label")
        label = label or _guess_label(train, report)
        texts = (text,) if isinstance(text, str) else tuple(text or (_guess_text(train, label, report),))
        frames = {split: _to_frame(table, label) for split, table in tables.items()}
        spec = _spec(name, texts, label, labels, metric)
        report.splits = {split: SplitReport("memory", len(frame)) for split, frame in frames.items()}
        task = build_task(name, spec, frames, report)
    except DataError as error:
        raise DataError(f"{source}: {error}", code=error.code) from None
    for warning in report.warnings:
        _log.warning("%s: %s", name, warning)
    return task


def _spec(name: str, texts: tuple[str, ...], label: str, labels: Mapping[str, str] | None, metric: str) -> TaskSpec:
    """The columns and the metric, checked like those of a catalogue."""
    renamed = {str(value): str(class_name) for value, class_name in (labels or {}).items()}
    # `train` is what a catalogue requires: the rows are here already.
    entry = {"train": "memory", "text": list(texts), "label": label, "labels": renamed, "metric": metric}
    return parse_task(name, entry, "the rows in memory")


def _split_tables(rows: Tables) -> dict[str, Any]:
    """The tables by split; a table alone is train."""
    if not isinstance(rows, Mapping) or "train" not in rows:
        if isinstance(rows, Mapping):
            raise DataError(
                f"a mapping must have the rows of each split, with 'train' among them, but has {quote_names(rows)}. "
                "A mapping of columns becomes a table with pandas.DataFrame."
            )
        return {"train": rows}
    if unknown := [str(split) for split in rows if split not in SPLITS]:
        raise DataError(
            f"unknown split '{unknown[0]}'. The splits are {', '.join(SPLITS)}: take those that are meant, under "
            "these names."
        )
    return dict(rows)


def _to_frame(table: Any, label: str) -> pd.DataFrame:
    """A table of rows as a DataFrame.

    Raises:
        DataError: it is none.
    """
    if isinstance(table, pd.DataFrame):
        return table
    if hasattr(table, "to_pandas") and hasattr(table, "features"):
        return dataset_table(table, label)
    if hasattr(table, "to_pandas"):  # such as a table of polars or pyarrow
        frame = table.to_pandas()
        assert isinstance(frame, pd.DataFrame)
        return frame
    if isinstance(table, Iterable) and not isinstance(table, str | bytes):
        listed = list(table)
        if all(isinstance(row, Mapping) for row in listed):
            return pd.DataFrame(listed, dtype=object)
    raise DataError(
        f"rows must be a pandas DataFrame, a datasets.Dataset or a list of dicts, but are a {type(table).__name__}."
    )


def _guess_label(train: pd.DataFrame, report: ReadReport) -> str:
    for name in _LABELS:
        if name in train.columns:
            if name != "label":
                report.warnings.append(f"the column '{name}' is used as the label")
            return name
    raise DataError(
        f"no column is named 'label'. Name it with label=. The columns are {_columns(train)}.",
        code=ErrorCode.COLUMN_MISSING,
    )


def _guess_text(train: pd.DataFrame, label: str, report: ReadReport) -> str:
    if "text" in train.columns:
        return "text"
    candidates = [str(name) for name in train.columns if name != label and _has_texts(train[name])]
    if len(candidates) != 1:
        raise DataError(
            f"no column is named 'text'. Name it with text=. The columns are {_columns(train)}.",
            code=ErrorCode.COLUMN_MISSING,
        )
    report.warnings.append(f"the column '{candidates[0]}' is used as the text")
    return candidates[0]


def _has_texts(column: pd.Series) -> bool:
    cells = column.dropna()
    return len(cells) > 0 and all(isinstance(cell, str) for cell in cells)


def _columns(train: pd.DataFrame) -> str:
    return quote_names([str(name) for name in train.columns]) or "none"
