"""Tables with delimiters: CSV, TSV and their relatives, and what no setting says about them.

The catalogue's keys `delimiter`, `quoting` and `header` decide. Without them a file decides where only one reading is
possible; otherwise it is rejected, and the message names the key.
"""

import csv
import io
import re
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from coldfusion_fl.data.catalogue import TaskSpec
from coldfusion_fl.data.quoting import find_quoting, is_regular, quoted_cells
from coldfusion_fl.data.report import ReadReport
from coldfusion_fl.errors import DataError, ErrorCode, count

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
CANDIDATES = (",", ";", "\t", "|")
# The first line with which Excel names the delimiter.
EXCEL_HINT = re.compile(r"sep=(.)(?:\r\n|\n|\r)")
_LONE_CARRIAGE_RETURN = re.compile(r"\r(?!\n)")
# The second and third header row of Orange's format: a type and flags per column.
_ORANGE_TYPES = frozenset(("c", "d", "s", "t", "continuous", "discrete", "string", "time"))
_ORANGE_FLAGS = frozenset(("class", "c", "meta", "m", "ignore", "i", "weight", "w"))
_SHOWN_CHARACTERS = 40
_HEADER_CHARACTERS = 2**20


def read_delimited(path: Path, text: str, spec: TaskSpec, report: ReadReport, suffix: str) -> pd.DataFrame:
    """Read the text of a table; cells stay text.

    Args:
        path: the file, for messages.
        text: its text.
        spec: the keys `delimiter`, `quoting` and `header`, and the columns that the table must have.
        report: receives a note on what the file decided.
        suffix: a key of `DELIMITERS`.

    Raises:
        DataError: the table cannot be read, two readings are possible, or its columns have other names.
    """
    if hint := EXCEL_HINT.match(text):
        text = text[hint.end() :]
        spec = spec if spec.delimiter else spec.model_copy(update={"delimiter": hint[1]})
    if suffix == ".tab" and not spec.header:
        text = _without_orange_rows(text)
    delimiter = spec.delimiter or _find_delimiter(path, text, spec, report, DELIMITERS[suffix])
    text = _join_broken_lines(path, text, delimiter, report)
    quoting = spec.quoting if spec.quoting != "auto" else find_quoting(path, text, delimiter, spec, report)
    _check_first_row(path, _first_row(text, delimiter, quoting), spec)
    options: dict[str, Any] = {"names": list(spec.header), "header": None} if spec.header else {}
    if quoting == "none":
        options["quoting"] = csv.QUOTE_NONE
    elif quoting == "backslash":
        options["escapechar"] = "\\"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas only warns, and drops cells
            # Pandas would turn the label 01 into 1 and the text "NA" into a missing value.
            return pd.read_csv(
                io.BytesIO(text.encode()),  # a StringIO takes four bytes per character
                sep=delimiter,
                encoding="utf-8",
                dtype=str,
                keep_default_na=False,
                index_col=False,
                **options,
            )
    except pd.errors.EmptyDataError:
        raise DataError(f"{path}: the file is empty.") from None
    except pd.errors.ParserWarning:
        raise DataError(
            f"{path}: its rows have more cells than the header has names. Name every column in the first line, and "
            "quote texts that contain the delimiter."
        ) from None


def _without_orange_rows(text: str) -> str:
    """The text of a `.tab` file without the second and third header row, if both are those of Orange."""
    lines = text.split("\n", 3)
    if len(lines) < 3:
        return text
    types, flags = ([cell.strip() for cell in line.split("\t")] for line in lines[1:3])
    # A type may also be a list of a discrete column's values, with spaces between them.
    has_types = any(cell in _ORANGE_TYPES for cell in types) and all(
        not cell or cell in _ORANGE_TYPES or " " in cell for cell in types
    )
    words = [word for cell in flags for word in cell.split()]
    has_flags = all(word in _ORANGE_FLAGS or "=" in word for word in words)
    return "\n".join([lines[0], *lines[3:]]) if has_types and has_flags else text


def _first_row(text: str, delimiter: str, quoting: str = "double") -> list[str]:
    """The cells of the first row that is not empty."""
    options: dict[str, Any] = {"quoting": csv.QUOTE_NONE} if quoting == "none" else {}
    try:
        rows = csv.reader(io.StringIO(text[:_HEADER_CHARACTERS], newline=""), delimiter=delimiter, **options)
        return next((row for row in rows if row), [])
    except csv.Error:  # a cell of more than 128 KiB: no header
        return []


def _find_delimiter(path: Path, text: str, spec: TaskSpec, report: ReadReport, usual: str) -> str:
    """The usual delimiter, unless the first row fits the catalogue with exactly one other delimiter and not with it.

    A first row also fits with the only delimiter that gives it some of the columns: others may be misspelt.
    """

    def fits(delimiter: str) -> bool:
        row = _first_row(text, delimiter)
        return len(row) == len(spec.header) if spec.header else not spec.missing_columns(row)

    def fits_partly(delimiter: str) -> bool:
        return not spec.header and bool(set(spec.columns) & set(_first_row(text, delimiter)))

    if fits(usual):
        return usual
    candidates = [delimiter for delimiter in CANDIDATES if delimiter != usual]
    others = list(filter(fits, candidates))
    if not others and not fits_partly(usual):
        others = list(filter(fits_partly, candidates))
    if len(others) != 1:
        return usual
    report.add_note(f"{path.name}: the delimiter is {others[0]!r}, as its first row shows")
    return others[0]


def _check_first_row(path: Path, row: list[str], spec: TaskSpec) -> None:
    """Check the header, or the number of cells of a file without a header."""
    if spec.header:
        if row and len(row) != len(spec.header):
            raise DataError(
                f"{path}: 'header' names {count(len(spec.header), 'column')}, but the first row has "
                f"{count(len(row), 'cell')}. Name every column in order, or set 'delimiter'."
            )
        return
    if twice := [name for name, number in Counter(row).items() if number > 1 and name in spec.columns]:
        raise DataError(f"{path}: two columns have the name '{twice[0]}'. Rename one of them in the file.")
    if row and not set(spec.columns) & set(row) and spec.missing_columns(row):
        cells = ", ".join(f"'{cell[:_SHOWN_CHARACTERS]}'" for cell in row[:6])
        wanted = ", ".join(f"'{name}'" for name in spec.columns)
        raise DataError(
            f"{path}: the first row has none of the columns {wanted}; its cells are {cells}. If these are the names of "
            "columns, set 'text' and 'label' in the catalogue. If they are data, the file has no header row: name "
            f"{'its column' if len(row) == 1 else f'its {len(row)} columns'} in the catalogue with header = [...]. "
            "If they should be split otherwise, set 'delimiter'.",
            code=ErrorCode.COLUMN_MISSING,
        )


def _join_broken_lines(path: Path, text: str, delimiter: str, report: ReadReport) -> str:
    """Replace carriage returns inside cells by spaces, where only lines that end with a line feed are regular."""
    if "\n" not in text or not (found := len(_LONE_CARRIAGE_RETURN.findall(text))):
        return text
    if any(quoted_cells(text, delimiter)):  # carriage returns may be inside quotes
        return text
    if is_regular(text, delimiter) or not is_regular(text, delimiter, re.compile("\n")):
        return text
    report.add_note(f"{path.name}: {count(found, 'carriage return')} inside cells became spaces")
    return _LONE_CARRIAGE_RETURN.sub(" ", text)
