"""Tables with delimiters: CSV, TSV and their relatives, and what no setting says about them.

The catalogue's keys `delimiter`, `quoting` and `header` decide. Without them a file decides where only one reading is
possible; otherwise it is rejected, and the message names the key.
"""

import csv
import io
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from coldfusion_fl.data.catalogue import TaskSpec
from coldfusion_fl.data.report import ReadReport
from coldfusion_fl.errors import DataError, ErrorCode, count

DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".txt": "\t"}
_CANDIDATES = (",", ";", "\t", "|")
_LINE_END = re.compile(r"\r\n|\n|\r")
_LONE_CARRIAGE_RETURN = re.compile(r"\r(?!\n)")
# The second and third header row of Orange's format: a type and flags per column.
_ORANGE_TYPES = frozenset(("c", "d", "s", "t", "continuous", "discrete", "string", "time"))
_ORANGE_FLAGS = frozenset(("class", "c", "meta", "m", "ignore", "i", "weight", "w"))
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*", re.IGNORECASE)
_SHOWN_CHARACTERS = 40


def read_delimited(path: Path, text: str, spec: TaskSpec, report: ReadReport, suffix: str) -> pd.DataFrame:
    """Read the text of a table; cells stay text.

    Args:
        path: the file, for messages.
        text: its text.
        spec: the keys `delimiter`, `quoting` and `header`, and the columns that the table must have.
        report: is told of what the file decided.
        suffix: a key of `DELIMITERS`.

    Raises:
        DataError: the table cannot be read, two readings are possible, or its columns have other names.
    """
    if suffix == ".tab" and not spec.header:
        text = _without_orange_rows(text)
    delimiter = spec.delimiter or _find_delimiter(path, text, spec, report, DELIMITERS[suffix])
    text = _join_broken_lines(path, text, delimiter, report)
    quoting = spec.quoting if spec.quoting != "auto" else _find_quoting(path, text, delimiter, spec, report)
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
                io.StringIO(text, newline=""),
                sep=delimiter,
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
        rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, **options)
        return next((row for row in rows if row), [])
    except csv.Error:  # a cell of more than 128 KiB: no header
        return []


def _find_delimiter(path: Path, text: str, spec: TaskSpec, report: ReadReport, usual: str) -> str:
    """The usual delimiter, unless the first row fits the catalogue with exactly one other delimiter and not with it."""

    def fits(delimiter: str) -> bool:
        row = _first_row(text, delimiter)
        return len(row) == len(spec.header) if spec.header else not spec.missing_columns(row)

    others = [delimiter for delimiter in _CANDIDATES if delimiter != usual and fits(delimiter)]
    if fits(usual) or len(others) != 1:
        return usual
    report.add_guess(f"{path.name}: the delimiter is {others[0]!r}, as its first row shows")
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


def _is_regular(text: str, delimiter: str, line_end: re.Pattern[str] = _LINE_END) -> bool:
    """Whether all lines have as many cells as the first one, if quotes have no meaning."""
    numbers = {line.count(delimiter) for line in line_end.split(text) if line}
    return len(numbers) == 1 and 0 not in numbers


def _join_broken_lines(path: Path, text: str, delimiter: str, report: ReadReport) -> str:
    """Replace carriage returns inside cells by spaces, where only lines that end with a line feed are regular."""
    if "\n" not in text or not (found := len(_LONE_CARRIAGE_RETURN.findall(text))) or '"' in text:
        return text
    if _is_regular(text, delimiter) or not _is_regular(text, delimiter, re.compile("\n")):
        return text
    report.add_guess(f"{path.name}: {count(found, 'carriage return')} inside cells became spaces")
    return _LONE_CARRIAGE_RETURN.sub(" ", text)


def _quoted_cells(text: str, delimiter: str, content: str) -> Iterator[re.Match[str]]:
    """The cells that begin with a quote; the group is empty if the quote is not closed at the end of the cell."""
    delimiter = re.escape(delimiter)
    return re.finditer(rf'(?:(?<=[\n\r{delimiter}])|\A)"(?:{content})*+("(?=[{delimiter}\r\n]|\Z))?', text)


def _find_quoting(path: Path, text: str, delimiter: str, spec: TaskSpec, report: ReadReport) -> str:
    """Decide whether quotes enclose cells: `double`, `backslash` or `none`.

    A quote inside an enclosed cell is written twice, or after a backslash. A text that merely begins with a quote
    breaks both rules, unless a later text ends with one. Then quotes have no meaning, if the lines are regular rows
    without them.
    """
    cells = list(_quoted_cells(text, delimiter, '[^"]+|""'))
    broken = [cell for cell in cells if not cell[1]]
    spanning = [cell for cell in cells if delimiter in cell[0] or _LINE_END.search(cell[0])]
    if not broken and not spanning:
        return "double"
    if broken and _has_backslashes(text, delimiter):
        report.add_guess(f'{path.name}: a quote in a quoted cell is written as \\", so quoting = "backslash"')
        return "backslash"
    # Without quoting, the names in a quoted header would have quotes.
    is_regular = (bool(spec.header) or not _has_quoted_header(text, delimiter)) and _is_regular(text, delimiter)
    if not is_regular:
        _reject_open_quotes(path, text, broken)
        return "double"
    if not broken and _quotes_join_rows(path, text, delimiter, spec, spanning):
        return "double"
    report.add_guess(f'{path.name}: quotes are part of the texts, so quoting = "none"')
    return "none"


def _quotes_join_rows(path: Path, text: str, delimiter: str, spec: TaskSpec, spanning: Sequence[re.Match[str]]) -> bool:
    """Whether quotes really enclose the cells with line ends, in a file whose lines are regular rows without quoting.

    The labels show it: if the lines of such a cell are rows, each of them has a label that other rows have too, or a
    number in a regression.

    Raises:
        DataError: some lines of a cell have such labels, and others do not.
    """
    lines = _LINE_END.split(text)
    names = list(spec.header) or next(line for line in lines if line).split(delimiter)
    if spec.label not in names:
        return True
    if any(cell[0].count(delimiter) != len(_LINE_END.findall(cell[0])) * (len(names) - 1) for cell in spanning):
        return False  # with quoting, the row of this cell would have too few or too many cells
    labels = [line.split(delimiter)[names.index(spec.label)] if line else "" for line in lines]
    spans = [slice(_line_number(text, cell.start()) - 1, _line_number(text, cell.end())) for cell in spanning]
    inside = {number for span in spans for number in range(len(lines))[span]}
    others = {label for number, label in enumerate(labels) if number not in inside}
    has_label = [_NUMBER.fullmatch(label) if spec.is_regression else label in others for label in labels]
    if all(has_label[number] for number in inside):
        return False
    # One of the lines has the label of the row that they make together.
    if all(sum(map(bool, has_label[span])) <= 1 for span in spans):
        return True
    raise DataError(
        f"{path}, line {spans[0].start + 1}: a quote opens here and closes in a later line, and the rows are complete "
        'with and without it. Set quoting = "none" in the catalogue if quotes are part of the texts, or '
        'quoting = "double" if they enclose cells.'
    )


def _has_quoted_header(text: str, delimiter: str) -> bool:
    return any(cell.startswith('"') for cell in _LINE_END.split(text.lstrip("\r\n"), 1)[0].split(delimiter))


def _has_backslashes(text: str, delimiter: str) -> bool:
    """Whether all quoted cells are closed if a quote inside them follows a backslash, and some cell has one."""
    cells = list(_quoted_cells(text, delimiter, r'[^"\\]+|\\[\s\S]|""'))
    return all(cell[1] for cell in cells) and any('\\"' in cell[0] for cell in cells)


def _reject_open_quotes(path: Path, text: str, broken: list[re.Match[str]]) -> None:
    """Reject a quote that joins lines, although no rule of quoting closes it. Within a line it does no harm."""
    for cell in broken:
        if "\n" in cell[0] or "\r" in cell[0] or cell.end() == len(text):
            raise DataError(
                f"{path}, line {_line_number(text, cell.start())}: a quote at the start of a cell is not closed at its "
                'end. Set quoting = "none" in the catalogue if quotes are part of the texts, quoting = "backslash" if '
                'a quote inside a cell is written as \\", or repair this line.'
            )


def _line_number(text: str, position: int) -> int:
    return len(_LINE_END.findall(text, 0, position)) + 1
