"""The tables that are written by hand, in the experiments' story and beside the settings, say what the scores say."""

import functools
import re
from pathlib import Path

import pytest

from coldfusion_fl.experiments.scores import ScoreFile
from coldfusion_fl.experiments.statistics import Estimate, estimate
from coldfusion_fl.experiments.tables import Results, comparisons, difference

ROOT = Path(__file__).parents[2]
SEEN, UNSEEN, FEW_SHOT = ("finetuned", "seen"), ("finetuned", "unseen"), ("few-shot", "unseen")
FROZEN_SEEN, FROZEN_UNSEEN = ("frozen", "seen"), ("frozen", "unseen")
LATER = (2, 3)  # the seeds whose scores did not prompt a question


@functools.cache
def results(experiment: str) -> Results:
    return Results(ScoreFile(ROOT / "experiments" / "results" / experiment / "scores.json"))


def over(of: str, to: str, column: tuple[str, str], seeds: tuple[int, ...] = (), experiment: str = "main") -> Estimate:
    """How much better one recipe's last base is than another's."""
    cells = difference(results(experiment), of, to, *column)
    found = estimate({key: gain for key, gain in cells.items() if not seeds or key[0] in seeds})
    assert found
    return found


def three(of: str, to: str, column: tuple[str, str], **more) -> list[float]:
    found = over(of, to, column, **more)
    return [found.mean, found.low, found.high]


def improved(recipe: str, seeds: tuple[int, ...] = ()) -> int:
    found = over(recipe, "base", SEEN, seeds)
    return round(found.positive * found.tasks)


def rows(file: str, head: str) -> dict[str, list[str]]:
    """The cells of a written table, by the first of each row."""
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    [start] = [number for number, line in enumerate(lines) if line.startswith(head)]
    found = {}
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        first, *others = (cell.strip() for cell in line.strip("|").split("|"))
        found[first] = others
    return found


def check(cell: str, *expected: float) -> None:
    """The numbers in a cell are the expected ones, to the digits that it has."""
    written = re.findall(r"[−+-]?\d[\d,]*(?:\.\d+)?", cell)
    assert len(written) == len(expected), (cell, expected)
    for number, value in zip(written, expected, strict=True):
        digits = len(number.partition(".")[2])
        assert float(number.replace("−", "-").replace(",", "")) == pytest.approx(round(value, digits)), (cell, expected)


GOALS = rows("experiments/README.md", "| goal |")
RECIPES = ("paper", "recommended", "paper-long")


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_goals_are_reached_or_missed_as_written(recipe):
    place = 1 + RECIPES.index(recipe)
    later = recipe == "paper-long"  # its question came of the first seed
    check(
        GOALS["finetuned, seen"][place],
        *three(recipe, "base", SEEN),
        *(three(recipe, "base", SEEN, seeds=LATER) if later else ()),
    )
    check(GOALS["finetuned, unseen"][place], *three(recipe, "base", UNSEEN))
    check(GOALS["few-shot, unseen"][place], *three(recipe, "base", FEW_SHOT))
    share = [improved(recipe), 36, *([improved(recipe, LATER)] if later else [])]
    check(GOALS["share of the seen sets that improve"][place], *share)
    check(GOALS["against `multitask`, finetuned, seen"][place], *three(recipe, "multitask", SEEN))
    check(GOALS["the same, unseen"][place], *three(recipe, "multitask", UNSEEN))
    if recipe != "paper":
        check(GOALS["over `paper`, finetuned, seen, interval above 0"][place], *three(recipe, "paper", SEEN))


@pytest.mark.parametrize(
    ("goal", "least"),
    [("finetuned, seen", 2.0), ("finetuned, unseen", 1.0), ("few-shot, unseen", 4.0)],
)
def test_a_goal_is_met_if_the_mean_reaches_it(goal, least):
    columns = {"finetuned, seen": SEEN, "finetuned, unseen": UNSEEN, "few-shot, unseen": FEW_SHOT}
    for cell, recipe in zip(GOALS[goal][1:], RECIPES, strict=True):
        assert cell.startswith("yes" if over(recipe, "base", columns[goal]).mean >= least else "**no**")


def test_the_round_that_reaches_papers_last_mean():
    there = results("main")
    [row] = [line for line in comparisons(there).splitlines() if line.startswith("| recommended over paper |")]
    reached = int(row.rstrip(" |").rpartition("|")[2])
    gain = estimate(there.gains("recommended", reached, *SEEN))
    cell, _, _ = GOALS["rounds in which it reaches `paper`'s last mean"][2].partition(";")
    check(cell, reached, *there.scores.rounds("recommended"), gain.mean, over("paper", "base", SEEN).mean)


def test_long_contributions_over_short_ones():
    table = rows("experiments/findings.md", "| `paper-long` over `paper` |")
    for row, seeds in (("three seeds", ()), ("the last two", LATER)):
        for cell, column in zip(table[row], (SEEN, UNSEEN, FEW_SHOT, FROZEN_SEEN, FROZEN_UNSEEN), strict=True):
            check(cell, *three("paper-long", "paper", column, seeds=seeds))


ATTACKS = {
    "none attack": [(), (), ("honest-greedy-soup",)],
    "one, two send noise ten times as long as their update": [
        ("one-noise", "two-noise"),
        ("one-noise-screened", "two-noise-screened"),
        (),
    ],
    "one sends noise a hundred times as long": [("one-loud",), ("one-loud-screened",), ()],
    "one, two turn the sign of their update": [
        ("one-flipped", "two-flipped"),
        (),
        ("one-flipped-greedy-soup", "two-flipped-greedy-soup"),
    ],
    "one, two learn from shuffled labels": [
        ("one-shuffled", "two-shuffled"),
        (),
        ("one-shuffled-greedy-soup", "two-shuffled-greedy-soup"),
    ],
}


@pytest.mark.parametrize("row", ATTACKS)
def test_the_effect_of_attackers(row):
    table = rows("docs/results/attacks.md", "| of eight contributors |")
    assert table.keys() == ATTACKS.keys()
    for cell, recipes in zip(table[row], ATTACKS[row], strict=True):
        expected = [three(name, "honest", SEEN, experiment="attacks") for name in recipes]
        check(cell, *(number for numbers in expected for number in numbers))


@pytest.mark.parametrize(
    ("row", "recipe"),
    [
        ("none to speak of, clipped alone", "clipped"),
        ("0.0003", "noise-0-0003"),
        ("0.003", "noise-0-003"),
        ("1", "noise-1"),
    ],
)
def test_the_cost_of_privacy(row, recipe):
    *_, finetuned, frozen = rows("docs/operations/reliability.md", "| `private-mean(clip=1, noise=…)` |")[row]
    check(finetuned, *three(recipe, "mean", SEEN, experiment="privacy"))
    check(frozen, *three(recipe, "mean", FROZEN_SEEN, experiment="privacy"))


@pytest.mark.parametrize(
    ("row", "recipe"),
    [
        ("the paper's recipe, short contributions", "paper"),
        ("the paper's recipe, few long contributions", "paper-long"),
        ("our preset `recommended`, all weights trained", "recommended"),
        ("the same number of examples in one place", "multitask"),
    ],
)
def test_the_headline_of_the_readme(row, recipe):
    seen, unseen = rows("README.md", "| | seen tasks | unseen tasks |")[row]
    check(seen, *three(recipe, "base", SEEN))
    check(unseen, *three(recipe, "base", UNSEEN))
