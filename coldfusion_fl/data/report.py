"""What was read of a task's files, and what was not: counts, notes, unused files and warnings."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from coldfusion_fl.errors import count

_SHOWN_LINES = 10


class LeftOut(StrEnum):
    """The reasons why a row is not used, as clauses of a sentence."""

    NO_TEXT = "without text"
    NO_LABEL = "without a label"
    OTHER_VALUE = "with other values of the columns of 'where'"
    OTHER_CLASS = "of other classes"
    DUPLICATE = "with the text of another row"
    OTHER_SHARD = "of other shards"


@dataclass
class SplitReport:
    """The rows of one split.

    Attributes:
        source: the files or the split that the rows come from; empty: they were split off train.
        read: the number of rows read.
        left_out: the number of rows that are not used, by reason.
        rows: the number of rows of the task's split.
        other_classes: the labels of rows that are left out because the catalogue's `labels` do not name them.
    """

    source: str = ""
    read: int = 0
    left_out: Counter[LeftOut] = field(default_factory=Counter)
    rows: int = 0
    other_classes: set[str] = field(default_factory=set)

    @property
    def kept(self) -> int:
        """The number of rows that are used, some of them perhaps in a split that was split off this one."""
        return self.read - self.left_out.total()

    @property
    def reasons(self) -> str:
        """How many rows are left out for which reason; empty: none is."""
        names = ", ".join(sorted(self.other_classes)[:_SHOWN_LINES])
        named = {LeftOut.OTHER_CLASS: f" ({names})" if names else ""}
        found = ((number, reason) for reason, number in self.left_out.items() if number)
        return ", ".join(f"{number:,} {reason}{named.get(reason, '')}" for number, reason in found)

    def line(self) -> str:
        """The counts as one clause."""
        if not self.source:
            return f"{count(self.rows, 'row')} split off train"
        left_out = f"{self.left_out.total():,} left out ({self.reasons}), " if self.reasons else ""
        return f"{count(self.read, 'row')} read from {self.source}, {left_out}{self.kept:,} kept"


@dataclass
class ReadReport:
    """What a task's rows were made of. The readers add to it.

    Attributes:
        splits: the counts by split.
        notes: sentences about what the files decided, such as a delimiter, and about characters that were changed.
        unused: the names of files beside the used ones that look like rows.
        warnings: sentences about rows that are valid but may be a mistake.
    """

    splits: dict[str, SplitReport] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add_note(self, sentence: str) -> None:
        """Add a sentence once, although several files of a task may lead to the same one."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def lines(self, *, brief: bool = False) -> list[str]:
        """The report as plain text, one fact per line.

        Args:
            brief: only what may need attention, without splits of which all rows are used.
        """
        unused = [f"not used: {', '.join(self.unused)}"] if self.unused else []
        return [
            *(f"{split}: {one.line()}" for split, one in self.splits.items() if one.reasons or not brief),
            *_cut(self.notes),
            *unused,
            *_cut([f"warning: {warning}" for warning in self.warnings]),
        ]


def _cut(lines: list[str]) -> list[str]:
    """The first of many lines, such as one for each of many small files, and the number of the others."""
    return lines if len(lines) <= _SHOWN_LINES else [*lines[:_SHOWN_LINES], f"and {len(lines) - _SHOWN_LINES} more"]
