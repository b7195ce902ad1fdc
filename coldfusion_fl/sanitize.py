"""What other parties say, made safe: texts for logs, terminals and spreadsheets, and numbers.

The limits of what a node can put into a run are here. They hold where something enters the server, and again where a
run folder is read, which an older release may have written.
"""

import itertools
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

# The longest name of a node, reason, and name of a number; and the longest text in a file of a run folder.
MAX_NAME = 100
MAX_REASON = 300
MAX_KEY = 60
MAX_TEXT = 1000
# The most numbers of one reply, and of all replies of a round together.
MAX_METRICS, MAX_METRICS_OF_ROUND, _MIN_METRICS = 100, 10_000, 20
# The longest list of numbers under one name.
MAX_LIST = 1000
# No loss, count or size is larger. Sums of a million such numbers are exact enough, and none of them overflows.
MAX_NUMBER = 1e15

# A spreadsheet takes a cell that begins like this for a formula. Some take wide forms too, or skip invisible spaces.
_FORMULA = re.compile("[\t\r\n]|[\\s\u200b-\u200f\u2060-\u2064\ufeff]*[=+@＝＋－＠-]")


def sanitize(text: object) -> str:
    """Replace each unprintable character by `?`, so that a text cannot break a line or move a terminal's cursor.

    `str.isprintable` decides which characters are printable. Rich's and Click's own functions remove only ANSI escape
    sequences, and would leave line breaks.
    """
    return "".join(character if character.isprintable() else "?" for character in str(text))


def bounded(text: object, longest: int = MAX_REASON) -> str:
    """The beginning of a text from another party, printable."""
    # Cut first: a text may have millions of characters.
    return sanitize(str(text)[:longest])


def is_sane(number: object) -> bool:
    """Whether something is a finite number of a size that sums, figures and files can hold."""
    if isinstance(number, bool) or not isinstance(number, int | float):
        return False
    return math.isfinite(number) and -MAX_NUMBER <= number <= MAX_NUMBER


def sane_numbers(numbers: Iterable[tuple[str, Any]], most: int = MAX_METRICS) -> dict[str, int | float]:
    """The first numbers of a report that are sane, by the beginnings of their names."""
    sane = ((bounded(name, MAX_KEY), number) for name, number in numbers if is_sane(number))
    return dict(itertools.islice(sane, most))


def metrics_limit(nodes: int) -> int:
    """How many numbers each of so many nodes can report, so that the records of a large round stay small."""
    return max(_MIN_METRICS, min(MAX_METRICS, MAX_METRICS_OF_ROUND // max(1, nodes)))


def short_text(text: str) -> str:
    """A text of a run folder: as it is, or its beginning."""
    return text if len(text) <= MAX_TEXT else text[:MAX_TEXT]


def short_report(numbers: object) -> object:
    """The numbers of a report in a run folder that are sane; what is no table stays as it is."""
    return sane_numbers(numbers.items()) if isinstance(numbers, Mapping) else numbers


def neutralize_formula(cell: Any) -> Any:
    """A cell of a CSV file that no spreadsheet takes for a formula; numbers stay numbers."""
    return f"'{cell}" if isinstance(cell, str) and _FORMULA.match(cell) else cell
