"""Whether quotes enclose the cells of a table, as its lines show."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path

from coldfusion_fl.data.catalogue import TaskSpec
from coldfusion_fl.data.report import ReadReport
from coldfusion_fl.errors import DataError

_LINE_END = re.compile(r"\r\n|\n|\r")
# Inside a quoted cell, a quote is written twice or after a backslash.
_DOUBLED = r'[^"]+|""'
_ESCAPED = r'[^"\\]+|\\[\s\S]|""'
_NUMBER = re.compile(r"\s*[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?\s*", re.IGNORECASE)


def find_quoting(path: Path, text: str, delimiter: str, spec: TaskSpec, report: ReadReport) -> str:
    """Decide how quotes are used.

    A text that merely begins with a quote breaks the rules of quoted cells, unless a later text ends with a quote. Then
    quotes have no meaning, if the lines are regular rows without them.

    Args:
        path: the file, for messages.
        text: its text.
        delimiter: the character between cells.
        spec: the names of the columns, and the kind of the label.
        report: receives a note on what is not usual.

    Returns:
        `double` or `backslash` (quotes enclose cells, and this is how a quote inside them is written), or `none`
        (quotes are part of the texts).

    Raises:
        DataError: more than one reading is possible, or none.
    """
    cells = list(quoted_cells(text, delimiter))
    broken = [cell for cell in cells if not cell[1]]
    spanning = [cell for cell in cells if delimiter in cell[0] or _LINE_END.search(cell[0])]
    if not broken and not spanning:
        return "double"
    if broken and _has_backslashes(text, delimiter):
        report.add_note(f'{path.name}: a quote in a quoted cell is written as \\", so quoting = "backslash"')
        return "backslash"
    may_be_texts = not (broken and _are_usual(cells, text)) and _names_its_cells(text, delimiter, spec)
    if not may_be_texts or not is_regular(text, delimiter):
        _reject_open_quotes(path, text, broken)
        return "double"
    if not broken and _do_quotes_join_lines(path, text, delimiter, spec, spanning):
        return "double"
    report.add_note(f'{path.name}: quotes are part of the texts, so quoting = "none"')
    return "none"


def quoted_cells(text: str, delimiter: str, content: str = _DOUBLED) -> Iterator[re.Match[str]]:
    """The cells that begin with a quote; the group is None if the quote is not closed at the end of the cell."""
    delimiter = re.escape(delimiter)
    # The quote comes before what must precede it: the search for a character is faster than for a position.
    return re.finditer(rf'"(?:(?<=[\n\r{delimiter}]")|(?<=\A"))(?:{content})*+("(?=[{delimiter}\r\n]|\Z))?', text)


def is_regular(text: str, delimiter: str, line_end: re.Pattern[str] = _LINE_END) -> bool:
    """Whether all lines have as many cells as the first one, and more than one, if quotes have no meaning."""
    numbers = {line.count(delimiter) for line in line_end.split(text) if line.strip()}
    return len(numbers) == 1 and 0 not in numbers


def _has_backslashes(text: str, delimiter: str) -> bool:
    """Whether all quoted cells are closed if a quote inside them follows a backslash, and some cell has one."""
    cells = list(quoted_cells(text, delimiter, _ESCAPED))
    return all(cell[1] for cell in cells) and any('\\"' in cell[0] for cell in cells)


def _are_usual(cells: Sequence[re.Match[str]], text: str) -> bool:
    """Whether quotes enclose most rows' cells, or a closed cell has a quote that is written twice."""
    closed = [cell[0] for cell in cells if cell[1]]
    return 2 * len(closed) > len(_LINE_END.findall(text)) or any('""' in cell[1:-1] for cell in closed)


def _first_line(text: str) -> str:
    return _LINE_END.split(text.lstrip("\r\n"), 1)[0]


def _names_its_cells(text: str, delimiter: str, spec: TaskSpec) -> bool:
    """Whether the cells of the first line have names or are names, if quotes have no meaning."""
    cells = _first_line(text).split(delimiter)
    return len(cells) == len(spec.header) if spec.header else not any(cell.startswith('"') for cell in cells)


def _reject_open_quotes(path: Path, text: str, broken: Sequence[re.Match[str]]) -> None:
    """Reject a quote that joins lines, although no rule of quoting closes it. Within a line it does no harm."""
    for cell in broken:
        if _LINE_END.search(cell[0]) or cell.end() == len(text):
            line = len(_LINE_END.findall(text, 0, cell.start())) + 1
            raise DataError(
                f"{path}, line {line}: a quote at the start of a cell is not closed at its end. Set quoting = "
                '"none" in the catalogue if quotes are part of the texts, quoting = "backslash" if a quote inside a '
                'cell is written as \\", or repair this line.'
            )


def _do_quotes_join_lines(
    path: Path, text: str, delimiter: str, spec: TaskSpec, spanning: Sequence[re.Match[str]]
) -> bool:
    """Whether quoted cells with line ends are cells, in a file whose lines are regular rows without quoting.

    The labels show it. If the lines of such a cell are rows, each of them has a label that other rows have too, or a
    number in a regression. If not, none but the last one has: the row that they make together has its label there.

    Raises:
        DataError: some of the lines have such labels, and others do not.
    """
    lines = _LINE_END.split(text)
    names = list(spec.header) or _first_line(text).split(delimiter)
    if spec.label not in names:
        return True  # the missing column is an error later
    if any(cell[0].count(delimiter) != len(_LINE_END.findall(cell[0])) * (len(names) - 1) for cell in spanning):
        return False  # with quoting, the row of this cell would have too few or too many cells
    labels = [line.split(delimiter)[names.index(spec.label)] if line.strip() else "" for line in lines]
    spans = _line_spans(text, spanning)
    inside = {number for span in spans for number in span}
    others = {label for number, label in enumerate(labels) if number not in inside}
    is_label = [bool(_NUMBER.fullmatch(label)) if spec.is_regression else label in others for label in labels]
    if all(is_label[number] for number in inside):
        return False
    if not any(is_label[number] for span in spans for number in span[:-1]):
        return True
    raise DataError(
        f"{path}, line {spans[0][0] + 1}: a quote opens here and closes in a later line, and the rows are complete "
        'with and without it. Set quoting = "none" in the catalogue if quotes are part of the texts, or '
        'quoting = "double" if they enclose cells.'
    )


def _line_spans(text: str, cells: Sequence[re.Match[str]]) -> list[range]:
    """The indices of the lines of each cell."""
    ends = [end.end() for end in _LINE_END.finditer(text)]
    return [range(bisect_right(ends, cell.start()), bisect_right(ends, cell.end()) + 1) for cell in cells]
