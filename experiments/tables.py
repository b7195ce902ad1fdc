"""An experiment's report: tables in Markdown, made of its scores alone."""

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from math import isnan

from .plan import BASE
from .scores import ScoreFile
from .statistics import Cells, Estimate, differences, estimate

# What is reported: mode, role.
COLUMNS = (
    ("finetuned", "seen"),
    ("finetuned", "unseen"),
    ("few-shot", "seen"),
    ("few-shot", "unseen"),
    ("frozen", "seen"),
    ("frozen", "unseen"),
)
_REACHED = ("finetuned", "seen")  # in which column one recipe reaches the other's last mean


class Results:
    """The scores of an experiment in the form that tables and figures need. The scores must not change afterwards.

    Args:
        scores: the scores.
        without: tasks that are left out.
    """

    def __init__(self, scores: ScoreFile, without: Collection[str] = ()) -> None:
        self.scores = scores
        self._without = without
        # Several tables show the same estimates, and a bootstrap interval takes a tenth of a second.
        self._gains: dict[tuple[str, str, str], Estimate | None] = {}

    @property
    def recipes(self) -> list[str]:
        """Those that have scores, the base first."""
        there = self.scores.facts["scores"]
        return [name for name in (BASE, *self.scores.facts["recipes"]) if name in there]

    @functools.cached_property
    def columns(self) -> list[tuple[str, str]]:
        """Mode and role of the scores that there are."""
        return [column for column in COLUMNS if any(self.last(name, *column) is not None for name in self.recipes)]

    @property
    def heads(self) -> list[str]:
        """What stands above these columns in a table."""
        return [f"{mode}, {role}" for mode, role in self.columns]

    def among(self, names: Iterable[str]) -> list[str]:
        """Those of some tasks that have scores."""
        return [name for name in names if name in self.scores.facts["tasks"]]

    def cells(self, recipe: str, number: int, mode: str, role: str) -> dict[tuple[int, str], float]:
        """A recipe's scores on its seen or unseen tasks after a round, by seed and task."""
        roles = self.scores.facts["roles"].get(recipe, {})
        return {
            (seed, task): value
            for seed, task, value in self.scores.values(recipe, number, mode)
            if task in roles[str(seed)][role] and task not in self._without
        }

    def last(self, recipe: str, mode: str, role: str) -> int | None:
        """The last round after which any seed has such scores; None: there are none."""
        numbers = [number for number in self.scores.rounds(recipe) if self.cells(recipe, number, mode, role)]
        return numbers[-1] if numbers else None

    def gains(self, recipe: str, number: int, mode: str, role: str) -> dict[tuple[int, str], float]:
        """How much better than the base a recipe's base is after a round, by seed and task."""
        base = {
            (seed, task): value for seed, task, value in self.scores.values(BASE, 0, mode) if task not in self._without
        }
        return differences(self.cells(recipe, number, mode, role), base)

    def course(self, recipe: str, mode: str, role: str) -> dict[int, Cells]:
        """Gains by round, each over the same seeds and tasks: those that have scores after each of the rounds."""
        found = {number: self.gains(recipe, number, mode, role) for number in self.scores.rounds(recipe)}
        found = {number: cells for number, cells in found.items() if cells}
        common = set.intersection(*map(set, found.values())) if found else set()
        return {number: {key: cells[key] for key in cells if key in common} for number, cells in found.items()}

    def gain(self, recipe: str, mode: str, role: str) -> Estimate | None:
        """The mean gain of a recipe's last base."""
        key = recipe, mode, role
        if key not in self._gains:
            number = self.last(*key)
            self._gains[key] = None if number is None else estimate(self.gains(recipe, number, mode, role))
        return self._gains[key]


def report(scores: ScoreFile) -> str:
    """The report of an experiment as Markdown."""
    about = scores.facts["experiment"]
    results = Results(scores)
    parts = [
        f"# {about['title']}",
        about["question"],
        _setup(results),
        "## Last bases",
        _legend(results),
        last_bases(results),
    ]
    groups = {group: there for group, names in about["without"].items() if (there := results.among(names))}
    fewer = {group: Results(scores, names) for group, names in groups.items()}
    for group, left in fewer.items():
        parts += [f"Without {group} ({', '.join(groups[group])}):", last_bases(left)]
    parts += ["Share of the data sets that are better than with the base:", shares(results), *_without(fewer, shares)]
    if about["comparisons"]:
        parts += ["## Comparisons", "Differences of the last bases, with 95 % intervals.", comparisons(results)]
        parts += _without(fewer, comparisons)
    if any(len(scores.rounds(name)) > 1 for name in results.recipes):
        parts += ["## Round by round", "Mean gains over the base in points, with 95 % intervals.", rounds(results)]
        parts += _without(fewer, rounds)
    parts += [
        "## Each data set",
        "The base's score and the gains of the last bases, means over seeds.",
        *tasks(results),
    ]
    parts += ["## What it took", making(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _without(fewer: Mapping[str, Results], made: Callable[[Results], str]) -> Iterator[str]:
    for group, left in fewer.items():
        yield f"Without {group}:"
        yield made(left)


def _legend(results: Results) -> str:
    about = results.scores.facts["experiment"]
    drawn = "data sets and seeds" if len(results.scores.seeds()) > 1 else "data sets; of one seed alone, so too narrow"
    text = (
        f"Mean {about['scoring']['split']} scores of the base in points, then what each recipe's last base gains over "
        f"it, with 95 % intervals (bootstrap over {drawn}) and (scores of data sets × seeds). No interval is adjusted "
        "for how many there are."
    )
    if about["scoring"]["split"] == "validation":
        text += (
            " Recipes are chosen by these scores, so the best recipe's score is too high: it is evaluated elsewhere."
        )
    return text


def _setup(results: Results) -> str:
    facts = results.scores.facts
    about, scoring = facts["experiment"], facts["experiment"]["scoring"]
    heads = sorted({task["head"] for task in facts["tasks"].values()})
    tuning, counts = scoring["finetune"], scoring["evaluate"]
    lines = [
        f"Base: `{about['base']['model']}`. Seeds: {', '.join(map(str, results.scores.seeds()))}. Heads of the scores: "
        f"{', '.join(heads)}.",
        f"Finetuned: {tuning['examples'] or 'all'} rows, at most {tuning['epochs']} epochs, learning rate "
        f"{tuning['learning-rate']:g}, batches of {tuning['batch-size']}, {tuning['max-length']} tokens. Few-shot: "
        f"{counts['shots']} rows, {counts['few-shot-epochs']} epochs, {counted(counts['few-shot-seeds'], 'draw')}. "
        f"Frozen: a linear probe on {counts['train-examples']} rows. At most {counts['test-examples']} rows are "
        "scored.",
    ]
    if folds := about["folds"]:
        lines.append(f"The seeds take turns in which of {len(folds)} folds of the data sets is unseen.")
    recipes = [f"- `{name}`: {text}" for name in results.recipes[1:] if (text := facts["recipes"][name]["about"])]
    return "\n".join(lines) + ("\n\n" + "\n".join(recipes) if recipes else "")


def last_bases(results: Results) -> str:
    """The base's means, and the gains of each recipe's last base; those of an earlier round say so."""
    columns = results.columns
    rows = [["base", "", *(_points(estimate(results.cells(BASE, 0, *column))) for column in columns)]]
    for name in results.recipes[1:]:
        numbers = [results.last(name, *column) for column in columns]
        last = max((number for number in numbers if number is not None), default=0)
        cells = []
        for column, number in zip(columns, numbers, strict=True):
            gain = _with_interval(results.gain(name, *column))
            cells.append(f"{gain}, after {number}" if gain and number != last else gain)
        rows.append([name, str(last or ""), *cells])
    return table(["recipe", "round", *results.heads], rows)


def shares(results: Results) -> str:
    """In how many of the data sets each recipe's last base is better than the base."""
    rows = []
    for name in results.recipes[1:]:
        found = [results.gain(name, *column) for column in results.columns]
        cells = ["" if one is None else f"{round(one.positive * one.tasks)} of {one.tasks}" for one in found]
        rows.append([name, *cells])
    return table(["recipe", *results.heads], rows)


def comparisons(results: Results) -> str:
    """Differences between recipes, and after which round one reaches the other's last mean."""
    rows = []
    reach = _REACHED in results.columns
    for pair in results.scores.facts["experiment"]["comparisons"]:
        of, to = pair["of"], pair["to"]
        if not {of, to} <= set(results.recipes):
            continue
        found = [_with_interval(estimate(difference(results, of, to, *column))) for column in results.columns]
        rows.append([f"{of} over {to}", *found, *([_reached(results, of, to)] if reach else [])])
    head = ["", *results.heads, *([f"reaches it ({', '.join(_REACHED)}) in round"] if reach else [])]
    return table(head, rows) if rows else ""


def difference(results: Results, of: str, to: str, mode: str, role: str) -> Cells:
    """By seed and task, how much better one recipe's last base is than another's, where both have a score."""
    one, other = results.last(of, mode, role), results.last(to, mode, role)
    if one is None or other is None:
        return {}
    return differences(results.cells(of, one, mode, role), results.cells(to, other, mode, role))


def _reached(results: Results, of: str, to: str) -> str:
    """The first round after which a recipe's finetuned scores on seen tasks are, on average, another's last ones.

    Rounds that lack any of the scores of its own last one are passed over.
    """
    last, own_last = results.last(to, *_REACHED), results.last(of, *_REACHED)
    if last is None or not own_last:
        return ""
    goal, whole = results.cells(to, last, *_REACHED), results.cells(of, own_last, *_REACHED).keys()
    for number in results.scores.rounds(of):
        found = results.cells(of, number, *_REACHED)
        ahead = by_task(differences(found, goal)) if whole <= found.keys() else {}
        if ahead and sum(ahead.values()) >= 0:
            return str(number)
    return "none"


def rounds(results: Results) -> str:
    """Mean gains after each round that was scored, over the seeds of which each of them was."""
    rows = []
    for name in results.recipes[1:]:
        courses = [results.course(name, *column) for column in results.columns]
        for number in sorted({number for course in courses for number in course if number}):
            found = [course.get(number, {}) for course in courses]
            seeds = sorted({seed for cells in found for seed, _ in cells})
            gains = [_with_interval(estimate(cells)) for cells in found]
            rows.append([name, str(number), ", ".join(map(str, seeds)), *gains])
    return table(["recipe", "round", "seeds", *results.heads], rows)


def tasks(results: Results) -> Iterator[str]:
    """A table a column: per data set the base's score and each recipe's gain."""
    facts = results.scores.facts["tasks"]
    for mode, role in results.columns:
        base = by_task(results.cells(BASE, 0, mode, role))
        gains = {
            name: by_task(results.gains(name, number, mode, role))
            for name in results.recipes[1:]
            if (number := results.last(name, mode, role)) is not None
        }
        rows = [
            [
                name,
                facts[name]["metric"],
                str(facts[name]["test-rows"]),
                f"{base[name]:.1f}",
                *(f"{found[name]:+.1f}" if name in found else "" for found in gains.values()),
            ]
            for name in sorted(base)
        ]
        yield f"### {mode.capitalize()}, {role}\n\n" + table(["", "metric", "test rows", "base", *gains], rows)


def by_task(cells: Cells) -> dict[str, float]:
    """Each task's mean over seeds."""
    found: dict[str, list[float]] = {}
    for (_, task), value in cells.items():
        found.setdefault(task, []).append(value)
    return {task: sum(values) / len(values) for task, values in found.items()}


def making(results: Results) -> str:
    """How many examples each recipe's training saw, and how long it took."""
    rows = []
    for name, seeds in results.scores.facts["making"].items():
        took = [facts["seconds"] / 60 for facts in seeds.values()]
        examples = [facts["examples"] for facts in seeds.values()]
        rejected = sum(facts.get("rejected", 0) for facts in seeds.values())
        devices = ", ".join(sorted({facts["device"] for facts in seeds.values()}))
        means = f"{sum(examples) / len(examples):,.0f}", f"{sum(took) / len(took):.0f}"
        rows.append([name, *means, str(rejected), devices])
    head = ["recipe", "examples, counting each pass", "minutes", "contributions rejected", "on"]
    return table(head, rows) if rows else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural where it is not one."""
    return f"{number} {noun}{'s' if number != 1 else ''}"


def _points(found: Estimate | None) -> str:
    return "" if found is None else f"{found.mean:.1f}"


def _with_interval(found: Estimate | None) -> str:
    if found is None:
        return ""
    interval = "" if isnan(found.low) else f" [{found.low:+.2f}, {found.high:+.2f}]"  # a single score has none
    there = "" if found.scores == found.tasks * found.seeds else f"{found.scores} of "  # folds leave some out
    return f"{found.mean:+.2f}{interval} ({there}{found.tasks} × {found.seeds})"
