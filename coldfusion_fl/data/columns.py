"""The columns of a task in a table of rows, as strings."""

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from coldfusion_fl.config.messages import did_you_mean
from coldfusion_fl.data.catalogue import PLACEHOLDER, TaskSpec
from coldfusion_fl.data.report import LeftOut, ReadReport, SplitReport
from coldfusion_fl.errors import DataError, ErrorCode, count

_SHOWN_NAMES = 5
_SHOWN_CHARACTERS = 40
# Half of a UTF-16 pair, which JSON can write: no tokenizer takes it.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# Anything but spaces, control characters and characters without a width.
_VISIBLE = re.compile("[^\\s\x00-\x1f\x7f-\x9f\u00ad\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_LISTS = (list, tuple, set, frozenset, np.ndarray)


def select_columns(rows: pd.DataFrame, spec: TaskSpec, split: str, report: ReadReport) -> pd.DataFrame:
    """The columns text, pair (of pair tasks) and label, as strings; incomplete rows are left out.

    Args:
        rows: the rows of a split.
        spec: the names of the columns, and the classes to keep.
        split: the split's name.
        report: receives the numbers of rows that are left out, by reason.

    Raises:
        DataError: a column is missing, or its cells are not texts; or no row has one of the classes to keep.
    """
    left_out = report.splits.setdefault(split, SplitReport(split, len(rows))).left_out
    chosen = _choose_rows(rows, spec, split)
    if spec.where:
        left_out[LeftOut.OTHER_VALUE] += len(rows) - len(chosen)
    column = _Columns(chosen, spec, split)
    labels, classes = _labels(column, report)
    texts = {
        name: _clean_texts(column.texts(text), split, report)
        for name, text in zip(("text", "pair"), spec.text, strict=False)
    }
    table = pd.DataFrame({**texts, "label": classes}, dtype=object)
    has_text = (table[list(texts)] != "").all(axis=1)
    has_label, is_kept = (np.array([label != "" for label in names], bool) for names in (labels, classes))
    left_out[LeftOut.NO_TEXT] += int((~has_text).sum())
    left_out[LeftOut.NO_LABEL] += int((has_text & ~has_label).sum())
    is_other = has_text & has_label & ~is_kept
    left_out[LeftOut.OTHER_CLASS] += int(is_other.sum())
    report.splits[split].other_classes |= {labels[row] for row in np.flatnonzero(is_other)}
    return table[has_text & is_kept].reset_index(drop=True)


def select_texts(rows: pd.DataFrame, text: tuple[str, ...]) -> list[list[str]]:
    """The texts of rows without labels: one list for each column or template; an empty text for an empty cell.

    Args:
        rows: n rows.
        text: one column or template, or two for pairs.

    Raises:
        DataError: a column is missing, or its cells are not texts.
    """
    column = _Columns(rows, TaskSpec(train="-", text=text), "prediction")
    return [_clean_texts(column.texts(name), "prediction", ReadReport()) for name in text]


def read_cells(rows: pd.DataFrame, spec: TaskSpec) -> dict[str, list[str]]:
    """All columns of a table as stripped strings, and the fields of columns of tables; an empty cell is an empty text.

    Columns of lists, and of bytes that are no text, are left out.

    Args:
        rows: n rows.
        spec: the encoding of columns of bytes.
    """
    column = _Columns(rows, spec, "train")
    found = {}
    for name in _names(rows):
        with contextlib.suppress(DataError):
            found[name] = [cell.strip() for cell in column.cells(name)]
    return found


def _choose_rows(rows: pd.DataFrame, spec: TaskSpec, split: str) -> pd.DataFrame:
    """The rows that have the values of the task's `where`.

    Raises:
        DataError: there is no such column, or no such row.
    """
    for name, value in spec.where.items():
        cells = [cell.strip() for cell in _Columns(rows, spec, split).cells(name)]
        rows = rows[np.array([cell == value for cell in cells], bool)]
        if rows.empty:
            raise DataError(
                f"'where' asks for '{shorten(value)}' in column '{name}', but no row of the {split} split has it. The "
                f"values are: {quote_names(sorted(set(cells)))}.",
                code=ErrorCode.SPLIT_EMPTY,
            )
    return rows


def quote_names(names: Collection[str]) -> str:
    """Names in quotes for a message; long ones and long lists are cut."""
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(f"'{shorten(name)}'" for name in list(names)[:_SHOWN_NAMES]) + more


def shorten(name: str) -> str:
    """A name for a message, cut if it is long."""
    return name if len(name) <= _SHOWN_CHARACTERS else f"{name[:_SHOWN_CHARACTERS]}..."


def _labels(column: "_Columns", report: ReadReport) -> tuple[list[str], list[str]]:
    """The labels as the rows have them, and the names of their classes; both are empty where there is none."""
    spec, split = column.spec, column.split
    cells = column.cells(spec.label, is_label=True)
    labels = [cell.strip() if _VISIBLE.search(cell) else "" for cell in cells]
    if trimmed := sum(label != cell for label, cell in zip(labels, cells, strict=True) if label):
        report.add_note(f"{split}: spaces around {count(trimmed, 'label')} were removed")
    if halves := [label for label in labels if _LONE_SURROGATE.search(label)]:
        raise DataError(
            f"the {split} split has the label {halves[0]!a}, in which half of a character is missing. Repair it.",
            code=ErrorCode.LABELS_INVALID,
        )
    if headers := labels.count(spec.label):
        report.warnings.append(f"{split}: the label of {count(headers, 'row')} is '{spec.label}', like a second header")
    if not spec.labels:
        return labels, labels
    if any(labels) and not set(labels) & spec.labels.keys():
        found = sorted(set(filter(None, labels)))
        raise DataError(
            f"'labels' names {quote_names(spec.labels)}, but no row of the {split} split has such a label. The labels "
            f"are: {quote_names(found)}.",
            code=ErrorCode.LABELS_INVALID,
        )
    return labels, [spec.labels.get(label, "") for label in labels]


def _clean_texts(texts: list[str], split: str, report: ReadReport) -> list[str]:
    """Texts without lone surrogates; a text without a visible character becomes an empty one."""
    halves = [i for i, text in enumerate(texts) if not text.isascii() and _LONE_SURROGATE.search(text)]
    for i in halves:
        texts[i] = _LONE_SURROGATE.sub("\ufffd", texts[i])
    if halves:
        report.add_note(f"{split}: {count(len(halves), 'text')} had half of a character, which became U+FFFD")
    return [text if _VISIBLE.search(text) else "" for text in texts]


class _Columns:
    """The columns of a table of rows, by name.

    Args:
        rows: the rows.
        spec: the task.
        split: the split's name, for messages.
    """

    def __init__(self, rows: pd.DataFrame, spec: TaskSpec, split: str) -> None:
        self.spec = spec
        self.split = split
        self._rows = rows

    def texts(self, text: str) -> list[str]:
        """A column, or a template that is filled with the columns that it names."""
        names = PLACEHOLDER.findall(text)
        if text in self._rows.columns or not names:
            return [cell.strip() for cell in self.cells(text)]
        values = [[cell.strip() for cell in self.cells(name)] for name in names]
        return [_fill(text, cells).strip() for cells in zip(*values, strict=True)]

    def cells(self, name: str, *, is_label: bool = False) -> list[str]:
        """A column as strings; an empty cell becomes an empty string."""
        values = self._find(name)
        if values is None:
            suggestion = did_you_mean(name, list(_names(self._rows)))
            if is_label and self.split != "train":
                suggestion += " If its rows have no labels, remove this split: its rows then come from train."
            raise DataError(
                f"the {self.split} split has no column '{name}'.{suggestion}", code=ErrorCode.COLUMN_MISSING
            )
        if set(map(type, values)) <= {str}:  # most columns; the way below takes ten times as long
            return values
        for value in values:
            if isinstance(value, (*_LISTS, Mapping)):
                raise self._nested(name, value, is_label)
        try:
            return [self._to_string(value) for value in values]
        except UnicodeDecodeError as error:
            raise DataError(
                f"the {self.split} split: column '{name}' has bytes that are not {error.encoding.upper()}. Set their "
                "encoding in the catalogue."
            ) from None

    def _find(self, name: str) -> list[Any] | None:
        """The cells of a column, or of a field such as `body.subject` of a column of tables; None: there is none."""
        if name in self._rows.columns:
            return list(self._rows[name])
        parts = name.split(".")
        for length in range(len(parts) - 1, 0, -1):
            if (outer := ".".join(parts[:length])) in self._rows.columns:
                found = [_field(value, parts[length:]) for value in self._rows[outer]]
                return None if all(value is _NO_FIELD for value in found) else found
        return None

    def _nested(self, name: str, value: object, is_label: bool) -> DataError:
        where = f"the {self.split} split: the cells of column '{name}'"
        if isinstance(value, Mapping):
            fields = [f"{name}.{field}" for field in value] or [f"{name}.FIELD"]
            key = "label" if is_label else "text"
            message = f'{where} are tables. Name one of their fields, {quote_names(fields)}: {key} = "{fields[0]}".'
        elif is_label:
            message = (
                f"{where} are lists, so this is a multi-label task, which is not supported. Write one class per row, "
                "as a text or a number."
            )
        else:
            message = f"{where} are lists. Join each list into one text in the file."
        return DataError(message, code=ErrorCode.LABELS_INVALID if is_label else ErrorCode.DATA_UNREADABLE)

    def _to_string(self, value: Any) -> str:
        """A cell as a string. 2.0 becomes "2": pandas turns the integers of a column with empty cells to floats."""
        if isinstance(value, np.bool_ | np.integer | np.floating):
            value = value.item()
        if value is None or value is _NO_FIELD or value is pd.NA or value is pd.NaT:
            return ""
        if isinstance(value, float):
            return "" if np.isnan(value) else str(int(value)) if value.is_integer() else str(value)
        if isinstance(value, bytes | bytearray | memoryview):
            return bytes(value).decode(self.spec.encoding or "utf-8", self.spec.encoding_errors)
        return str(value)


_NO_FIELD = object()


def _field(value: Any, path: Sequence[str]) -> Any:
    """The value at a path of keys in nested tables, or `_NO_FIELD`; a key may have dots itself."""
    if not path:
        return value
    if not isinstance(value, Mapping):
        return _NO_FIELD
    for length in range(len(path), 0, -1):
        if (key := ".".join(path[:length])) in value:
            return _field(value[key], path[length:])
    return _NO_FIELD


def _names(rows: pd.DataFrame) -> Iterator[str]:
    """The names of the columns, and of the fields of columns of tables."""
    for column in rows.columns:
        yield str(column)
        first = next((value for value in rows[column] if isinstance(value, Mapping)), {})
        yield from (f"{column}.{field}" for field in first)


def _fill(template: str, cells: Sequence[str]) -> str:
    """Fill a template in one pass, so that braces in a cell's own text are not replaced."""
    remaining = iter(cells)
    return PLACEHOLDER.sub(lambda _: next(remaining), template)
