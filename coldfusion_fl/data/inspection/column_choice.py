"""Which columns of a table are the text and the label, and which metric the label needs: guesses with their reasons."""

import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from coldfusion_fl.data.inspection.names import LABEL_NAMES, TEXT_NAMES, find_pair, is_id, match
from coldfusion_fl.data.metrics import METRICS
from coldfusion_fl.errors import count

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_WHOLE = re.compile(r"[-+]?\d+")
# Cells of which most are these are neither texts nor classes.
_ADDRESS_OR_DATE = re.compile(r"\w+://\S+|\S+@\S+\.\w+|\d{4}-\d\d?-\d\d?([T ].*)?|\d\d?[./]\d\d?[./]\d{2,4}.*")
_SHOWN_SAMPLE = 500
_MAX_CLASSES = 1000
_CLASS_CHARACTERS = 60
# Repeated cells of fewer words are rather classes than one text of a pair.
_FEW_WORDS = 4
# More different numbers are measures rather than classes, and more than a few if they have fractions.
_MANY_NUMBERS = 20
_MANY_FRACTIONS = 10
# The texts of another column may be meant as well if they are at least so long, in shares of the chosen one's.
_SIMILAR = 0.5
REGRESSION = next(name for name, metric in METRICS.items() if metric.is_regression)
DEFAULT_METRIC = next(iter(METRICS))


@dataclass(frozen=True)
class Column:
    """What the cells of a column show.

    Attributes:
        name: its name.
        filled: the number of cells that are not empty.
        empty: the number of the others.
        distinct: the number of different cells that are not empty.
        words: the mean number of words of these cells.
        characters: their mean number of characters.
        numbers: the share of them that are numbers.
        other: the share of them that are dates, or addresses of the web or of mail.
    """

    name: str
    filled: int
    empty: int
    distinct: int
    words: float
    characters: float
    numbers: float
    other: float

    @property
    def is_text(self) -> bool:
        """Whether it can be the text of a task."""
        return bool(self.filled > 1 and self.distinct > 1 and self.numbers < 0.9 and self.other < 0.5)

    @property
    def is_class(self) -> bool:
        """Whether its values recur, and are short enough for the names of classes."""
        recurs = 2 <= self.distinct <= min(_MAX_CLASSES, self.filled // 2)
        return recurs and self.characters <= _CLASS_CHARACTERS and self.other < 0.5

    @property
    def is_number(self) -> bool:
        """Whether all values are numbers, and not all the same."""
        return self.numbers == 1 and self.distinct > 1

    @property
    def mean_words(self) -> str:
        """The mean number of words, as a clause."""
        return f"{count(round(self.words), 'word')} on average"

    def describe(self) -> str:
        """The facts that show what a column is, for a list to choose from."""
        empty = f", {self.empty:,} empty" if self.empty else ""
        return f"{self.distinct:,} different values, {self.mean_words}{empty}"


@dataclass(frozen=True)
class Choice:
    """A guess.

    Attributes:
        value: the names of the columns, or the metric; empty: there is no candidate.
        reason: why, as a clause.
        rivals: what may be meant as well; empty: nothing.
    """

    value: tuple[str, ...]
    reason: str
    rivals: tuple[str, ...] = ()


def describe_columns(cells: Mapping[str, Sequence[str]]) -> list[Column]:
    """The facts of each column.

    Args:
        cells: the stripped cells by name of the column; all columns have the same number.
    """
    return [_describe(name, column) for name, column in cells.items() if _can_be_written(name)]


def _describe(name: str, cells: Sequence[str]) -> Column:
    filled = [cell for cell in cells if cell]
    sample = filled[:: max(1, len(filled) // _SHOWN_SAMPLE)]
    size = max(1, len(sample))
    return Column(
        name=name,
        filled=len(filled),
        empty=len(cells) - len(filled),
        distinct=len(set(filled)),
        words=sum(len(cell.split()) for cell in sample) / size,
        characters=sum(map(len, sample)) / size,
        numbers=sum(bool(_NUMBER.fullmatch(cell)) for cell in sample) / size,
        other=sum(bool(_ADDRESS_OR_DATE.fullmatch(cell)) for cell in sample) / size,
    )


def _can_be_written(name: str) -> bool:
    """Whether a file in UTF-8 can have this name: JSON has names with half of a character, and headers have none."""
    try:
        return bool(name.encode())
    except UnicodeEncodeError:
        return False


def choose_text(columns: Sequence[Column], label: str = "") -> Choice:
    """The column of the texts, or the two of a pair.

    Names decide first, then the mean length: the texts are the longest cells of a table.

    Args:
        columns: all columns of the table.
        label: the column of the label, if it is known.
    """
    texts = [column for column in columns if column.is_text and not is_id(column.name) and column.name != label]
    if pair := find_pair([column.name for column in texts if not column.is_class or column.words >= _FEW_WORDS]):
        return Choice(pair, "the names are those of a pair")
    if not texts:
        return Choice((), "")
    ranked = sorted(texts, key=_text_score, reverse=True)
    best = ranked[0]
    rivals = [column.name for column in ranked[1:] if _text_score(column) > _SIMILAR * _text_score(best)]
    is_named = match(best.name, TEXT_NAMES) == 2
    reason = f"{'its name, and ' if is_named else ''}{best.mean_words}"
    return Choice((best.name,), reason, tuple(rivals))


def _text_score(column: Column) -> float:
    """The mean length, more for a usual name of a text, and less for repeated cells and for a usual name of a label."""
    named = (1, 2, 4)[match(column.name, TEXT_NAMES)]
    label = 4 if _is_surely_label(column) else 1
    return column.characters * column.distinct / column.filled * named / label


def _is_surely_label(column: Column) -> bool:
    return column.is_class and match(column.name, LABEL_NAMES) == 2


def choose_label(columns: Sequence[Column], texts: Collection[str]) -> Choice:
    """The column of the label: first by its name, then values that recur, then numbers.

    Args:
        columns: all columns of the table.
        texts: the columns of the texts.
    """
    candidates = [
        column
        for column in columns
        if column.name not in texts and not is_id(column.name) and column.filled > column.empty
        if column.is_class or column.is_number
    ]
    ranked = sorted(candidates, key=_label_rank, reverse=True)
    if not ranked:
        return Choice((), "")
    best = ranked[0]
    rivals = [column.name for column in ranked[1:] if _label_rank(column) == _label_rank(best)]
    named = "its name, and " if _label_rank(best)[0] else ""
    kind = f"{best.distinct:,} different values" if best.is_class else "numbers"
    return Choice((best.name,), f"{named}{kind} in {best.filled:,} rows", tuple(rivals))


def _label_rank(column: Column) -> tuple[int, bool]:
    return match(column.name, LABEL_NAMES), column.is_class


def choose_metric(labels: Sequence[str]) -> Choice:
    """The metric of a task with these labels: that of a regression if they are many numbers.

    Args:
        labels: the stripped cells of the label's column; empty ones are ignored.
    """
    counts = Counter(filter(None, labels))
    values = list(counts)
    if not values or not all(_NUMBER.fullmatch(value) for value in values):
        return Choice((DEFAULT_METRIC,), "the labels are names")
    if len(values) > _MANY_NUMBERS:
        # Data sets number their classes without gaps, and each class has several rows.
        whole = {int(value) for value in values if _WHOLE.fullmatch(value)}
        are_numbered = whole in (set(range(len(values))), set(range(1, len(values) + 1))) and min(counts.values()) > 1
        rivals = (DEFAULT_METRIC,) if are_numbered else ()
        return Choice((REGRESSION,), f"the labels are {len(values):,} different numbers, so a regression", rivals)
    if len(values) > _MANY_FRACTIONS and not all(_WHOLE.fullmatch(value) for value in values):
        return Choice((REGRESSION,), f"the labels are {len(values)} different numbers with fractions, so a regression")
    return Choice((DEFAULT_METRIC,), f"the labels are only {len(values)} different numbers, so classes")
