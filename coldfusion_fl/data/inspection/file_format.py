"""How a text file with a table is written, where its columns are not known yet: encoding, delimiter, header."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldfusion_fl.data.catalogue import TaskSpec
from coldfusion_fl.data.decoding import guess_encoding, read_text
from coldfusion_fl.data.delimited import CANDIDATES, DELIMITERS, EXCEL_HINT
from coldfusion_fl.data.inspection.names import GENERATED, is_usual_name
from coldfusion_fl.data.report import ReadReport
from coldfusion_fl.data.rows import format_suffix

_SAMPLE_CHARACTERS = 2**20
_SAMPLE_ROWS = 200
# A name of a column has seldom more characters, and a text seldom fewer.
_NAME_CHARACTERS = 50
_NUMBER = re.compile(r"[-+]?\d+([.,]\d+)?")
# The share of the rows that must have as many cells as the first one.
_REGULAR = 0.9


@dataclass(frozen=True)
class FileFormat:
    """What a catalogue says of how a file is written.

    Attributes:
        keys: the keys of a task that its reader needs: `encoding`, `delimiter`, `header`.
        delimiter: the delimiter; empty for a format without one.
        columns: the names of the columns, as far as each is there once; empty for a format without a header.
        notes: sentences about what was guessed.
    """

    keys: dict[str, Any]
    delimiter: str = ""
    columns: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def guess_format(path: Path, given: dict[str, Any]) -> FileFormat:
    """Guess how a file is written.

    Args:
        path: the file, or a folder of classes, which shows all itself.
        given: the keys `encoding` and `delimiter` that the user has decided.

    Raises:
        DataError: the file is no text, or cannot be decoded.
    """
    suffix = format_suffix(path)
    if path.is_dir() or suffix == ".parquet":
        return FileFormat({})
    keys, notes = {key: value for key, value in given.items() if value and key == "encoding"}, []
    if not keys and (encoding := guess_encoding(path)):
        keys["encoding"] = encoding
        notes.append(f"guess: the encoding is {encoding}, as the bytes are not UTF-8 (--encoding)")
    if suffix not in DELIMITERS:
        return FileFormat(keys, notes=tuple(notes))
    text = read_text(path, TaskSpec(train="-", **keys), ReadReport())
    usual = DELIMITERS[suffix]
    if hint := EXCEL_HINT.match(text):
        text, usual = text[hint.end() :], hint[1]
    delimiter = given.get("delimiter") or _guess_delimiter(text, usual)
    if delimiter != usual:
        keys["delimiter"] = delimiter
    if delimiter != usual and not given.get("delimiter"):
        notes.append(f"guess: the delimiter is {delimiter!r}, as the rows then have equally many cells (--delimiter)")
    rows = _sample(text, delimiter)
    if rows and not _is_header(rows[0], rows[1:]):
        columns = tuple(f"{GENERATED}_{number}" for number in range(1, len(rows[0]) + 1))
        keys["header"] = list(columns)
        notes.append("guess: there is no header row, as the first row looks like data. The columns have numbers")
    else:
        columns = tuple(name for name in rows[0] if rows[0].count(name) == 1) if rows else ()
    return FileFormat(keys, delimiter, columns, tuple(notes))


def _sample(text: str, delimiter: str, *, quoted: bool = True) -> list[list[str]]:
    """The first rows that are not empty; `quoted`: quotes enclose cells."""
    found: list[list[str]] = []
    lines = io.StringIO(text[:_SAMPLE_CHARACTERS], newline="")
    reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE)
    try:
        for row in reader:
            if row:
                found.append(row)
            if len(found) > _SAMPLE_ROWS:
                break
    except csv.Error:  # a cell of more than 128 KiB
        pass
    # The sample may end within a row.
    return found[:-1] if len(text) > _SAMPLE_CHARACTERS else found


def _guess_delimiter(text: str, usual: str) -> str:
    """The usual delimiter, unless another one makes more regular rows of at least two cells."""
    scores = {delimiter: _regularity(text, delimiter) for delimiter in (usual, *CANDIDATES)}
    best = max(scores, key=lambda delimiter: scores[delimiter])  # the first of equal ones
    return best if scores[usual] < _REGULAR <= scores[best] else usual


def _regularity(text: str, delimiter: str) -> float:
    """The share of rows with as many cells as the first one; 0 if that has only one."""
    shares = [0.0]
    for quoted in (True, False):
        rows = _sample(text, delimiter, quoted=quoted)
        if rows and len(rows[0]) > 1:
            shares.append(sum(len(row) == len(rows[0]) for row in rows) / len(rows))
    return max(shares)


def _is_header(first: Sequence[str], rest: Sequence[Sequence[str]]) -> bool:
    """Whether the first row has names: a usual one, or short ones that are no numbers and that no column repeats."""
    cells = [cell.strip() for cell in first]
    if any(is_usual_name(cell) for cell in cells):
        return True
    if any(len(cell) > _NAME_CHARACTERS or _NUMBER.fullmatch(cell) for cell in cells) or not any(cells):
        return False
    columns = [[row[number].strip() for row in rest if len(row) > number] for number in range(len(cells))]
    return not any(cell and column.count(cell) > 1 for cell, column in zip(cells, columns, strict=True))
