"""Which columns and metric a task gets: what the options say, what a person answers, or a guess."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import typer

from coldfusion_fl.cli.app import print_line
from coldfusion_fl.data.inspection.column_choice import Choice, choose_label, choose_metric, choose_text
from coldfusion_fl.data.inspection.sources import Source
from coldfusion_fl.data.inspection.table import Table, read_table
from coldfusion_fl.errors import DataError, ErrorCode

_SHOWN_COLUMNS = 30


@dataclass(frozen=True)
class Given:
    """What the user has decided for all tables.

    Attributes:
        texts: the columns of the texts, one or two each; a table has the first of these that it has.
        labels: likewise the columns of the label.
        metric: the metric; empty: it is guessed.
        file_keys: the keys `encoding` and `delimiter` of a task; empty: they are guessed.
        asks: whether a person can be asked.
    """

    texts: Sequence[tuple[str, ...]] = ()
    labels: Sequence[str] = ()
    metric: str = ""
    file_keys: Mapping[str, str] = field(default_factory=dict)
    asks: bool = False


@dataclass(frozen=True)
class Decision:
    """What a task is made of.

    Attributes:
        table: its rows.
        text: the columns of the texts.
        label: the column of the label.
        metric: the metric.
        left_out: the splits that are not used, with the reason.
        lines: what was decided, and why: one sentence each.
    """

    table: Table
    text: tuple[str, ...]
    label: str
    metric: str
    left_out: Mapping[str, str]
    lines: tuple[str, ...]


class Decider:
    """Decides for one table after the other. Tables with the same columns get the same answers.

    Args:
        given: what the user has decided.
    """

    def __init__(self, given: Given) -> None:
        self._given = given
        self._answers: dict[tuple[str, tuple[str, ...]], str] = {}

    def decide(self, source: Source) -> Decision:
        """Read a table, and decide what is its text, its label and its metric.

        Raises:
            DataError: a file cannot be read, a column that was named is missing, or there is no column that can be the
                text or the label.
        """
        table = read_table(source, self._given.file_keys, self._given.labels[0] if self._given.labels else "")
        lines = list(table.format.notes)
        known = _first_that_fits(table, "--label", [(name,) for name in self._given.labels])
        text = _first_that_fits(table, "--text", self._given.texts)
        if not text:
            text = self._choose(table, "text", choose_text(table.columns, known[0] if known else ""), lines)
        if not known:
            known = self._choose(table, "label", choose_label(table.columns, text), lines)
        metric = self._given.metric
        if not metric:
            (metric,) = self._choose(table, "metric", choose_metric(table.cells.get(known[0], ())), lines)
        left_out = table.splits_without(known[0])
        lines += [f"the {split} split is not used: {reason}" for split, reason in left_out.items()]
        return Decision(table, text, known[0], metric, left_out, tuple(lines))

    def _choose(self, table: Table, what: str, choice: Choice, lines: list[str]) -> tuple[str, ...]:
        """The value of a choice; a person is asked where it has rivals."""
        if not choice.value:
            columns = "; ".join(f"'{column.name}' ({column.describe()})" for column in table.columns[:_SHOWN_COLUMNS])
            raise DataError(
                f"{table.source.shown}: no column looks like a {what}. Name it with --{what}. The columns are: "
                f"{columns}",
                code=ErrorCode.COLUMN_MISSING,
            )
        if choice.rivals and self._given.asks and len(choice.value) == 1:
            answer = self._ask(table, what, choice)
            lines.append(f"{what}: {answer} (your answer)")
            return (answer,)
        rivals = ", ".join(f"'{name}'" for name in choice.rivals)
        perhaps = f"; perhaps {rivals} is meant: see --{what}" if rivals else ""
        names = " and ".join(choice.value)
        lines.append(f"{what}: {names} (guess: {choice.reason}{perhaps})")
        return choice.value

    def _ask(self, table: Table, what: str, choice: Choice) -> str:
        key = (what, table.names)
        if key not in self._answers:
            options = dict.fromkeys((*choice.value, *choice.rivals), "")
            options |= {column.name: column.describe() for column in table.columns if column.name in options}
            self._answers[key] = ask(f"{table.source.shown.name}: which is the {what}?", options)
        return self._answers[key]


def _first_that_fits(table: Table, option: str, wanted: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """The first of several columns or pairs that the table has; empty if none is wanted.

    Raises:
        DataError: the table has none of them.
    """
    errors = []
    for names in wanted:
        try:
            table.require(option, *names)
            return names
        except DataError as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return ()


def ask(question: str, options: Mapping[str, str]) -> str:
    """Ask a person for one of several names, by its number or its name; the first one is the default.

    Args:
        question: what is asked.
        options: what is known of each name.
    """
    print_line(question)
    names = list(options)
    for number, name in enumerate(names, start=1):
        print_line(f"  {number}  {name}{f': {options[name]}' if options[name] else ''}")
    while True:
        answer = str(typer.prompt("Number or name", default="1")).strip()
        if answer in options:
            return answer
        if answer.isdecimal() and 1 <= int(answer) <= len(names):
            return names[int(answer) - 1]
        print_line(f"Answer with a number from 1 to {len(names)}, or with one of the names.")
