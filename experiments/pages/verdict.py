"""What an experiment's scores say, in words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..plan import BASE
from ..statistics import Estimate, estimate
from ..tables import COLUMNS, Results, difference

Column = tuple[str, str]  # mode and role

# Unseen data sets first: they show what a base gives to others.
_ORDER = sorted(COLUMNS, key=lambda column: (column[1] != "unseen", COLUMNS.index(column)))


@dataclass(frozen=True)
class Finding:
    """A recipe compared with another one, or with the base.

    Attributes:
        of: the recipe.
        to: what it is compared with.
        sentence: where they differ.
        unclear: where they do not; empty if there is no such kind of scores.
        estimates: the mean differences with their intervals, by kind of score.
    """

    of: str
    to: str
    sentence: str
    unclear: str
    estimates: Mapping[Column, Estimate]


def findings(results: Results) -> list[Finding]:
    """The comparisons that the experiment names, in its order; where it names none, each recipe and the base."""
    columns = [column for column in _ORDER if column in results.columns]
    pairs = [(pair["of"], pair["to"]) for pair in results.scores.facts["experiment"]["comparisons"]]
    pairs = [pair for pair in pairs if set(pair) <= set(results.recipes)]
    made = []
    for of, to in pairs or [(name, BASE) for name in results.recipes[1:]]:
        found = {column: one for column in columns if (one := _mean_difference(results, of, to, column))}
        if found:
            made.append(Finding(of, to, *_sentences(of, "the base" if to == BASE else to, found), found))
    return made


def _mean_difference(results: Results, of: str, to: str, column: Column) -> Estimate | None:
    return results.gain(of, *column) if to == BASE else estimate(difference(results, of, to, *column))


def _sentences(of: str, to: str, found: Mapping[Column, Estimate]) -> tuple[str, str]:
    """Where the interval is above zero, below it, or neither. A single score has an interval of NaN, so neither."""
    better = [column for column, one in found.items() if one.low > 0]
    worse = [column for column, one in found.items() if one.high < 0]
    if not better and not worse:
        return f"{of} and {to} do not differ clearly.", ""
    parts = [f"better than {to}: {_kinds(better)}"] if better else []
    parts += [f"{'worse' if better else f'worse than {to}'}: {_kinds(worse)}"] if worse else []
    rest = [column for column in found if column not in better and column not in worse]
    return f"{of} is {'; '.join(parts)}.", f"No clear difference: {_kinds(rest)}." if rest else ""


def _kinds(columns: Iterable[Column]) -> str:
    """Kinds of scores as text, such as `finetuned (unseen, seen), frozen (seen)`."""
    roles: dict[str, list[str]] = {}
    for mode, role in columns:
        roles.setdefault(mode, []).append(role)
    return ", ".join(f"{mode} ({', '.join(found)})" for mode, found in roles.items())


def caveat(results: Results) -> str:
    """What the intervals leave out."""
    if len(results.scores.seeds()) > 1:
        return "No interval is adjusted for how many there are."
    return (
        "All scores are of one seed: the intervals leave out how much a repetition would differ, and are too narrow. "
        "No interval is adjusted for how many there are."
    )
