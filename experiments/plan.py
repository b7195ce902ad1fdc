"""An experiment: recipes that make bases, how these are scored, and all scores that this makes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.config.schema import Names, Numbers, SettingsTable
from coldfusion_fl.config.settings import EvaluateSettings, FinetuneSettings, Settings
from coldfusion_fl.config.tables import merged, to_table
from coldfusion_fl.data.catalogue import resolve_catalogues
from coldfusion_fl.data.paths import resolve_from
from coldfusion_fl.errors import SettingsError

# The base itself, before any round: every recipe begins with it.
BASE = "base"
Kind = Literal["federation", "multitask", "single-task"]
ROLES = ("seen", "unseen")
# What a recipe's description says where nothing else is said.
RECIPE = {"kind": "federation", "average": False, "settings": to_table(Settings(base=""))}


class Scoring(SettingsTable):
    """How every base is scored.

    Attributes:
        rounds: the rounds after which a federation's bases are scored; always after the last.
        finetuned: which tasks get a finetuned score: `seen`, `unseen`, both or none; likewise `frozen` and `few_shot`.
        split: `test`; or `validation`, to choose among recipes by: its rows are then scored, and trainings do not look
            at them to stop early.
        finetune: the training of a score, and its head.
        evaluate: how many rows, shots and draws.
    """

    rounds: Numbers = ()
    finetuned: Names = ROLES
    frozen: Names = ROLES
    few_shot: Names = ("unseen",)
    split: Literal["test", "validation"] = "test"
    finetune: FinetuneSettings = Field(default_factory=FinetuneSettings)
    evaluate: EvaluateSettings = Field(default_factory=EvaluateSettings)

    @model_validator(mode="after")
    def _check(self) -> Self:
        for role in (*self.finetuned, *self.frozen, *self.few_shot):
            if role not in ROLES:
                raise SettingsError(f"[scoring]: tasks are 'seen' or 'unseen', not '{role}'.")
        if self.few_shot and not self.evaluate.shots:
            raise SettingsError("[scoring]: a few-shot score needs evaluate.shots of 1 or more; or set few-shot = [].")
        return self

    def modes(self, role: str) -> list[str]:
        """The scores that a task gets which is `seen` or `unseen`."""
        wanted = {"finetuned": self.finetuned, "frozen": self.frozen, "few-shot": self.few_shot}
        return [mode for mode, roles in wanted.items() if role in roles]


class Comparison(SettingsTable):
    """Two recipes whose last bases are compared: how much better `of` is than `to`."""

    of: str
    to: str = BASE


@dataclass(frozen=True)
class Recipe:
    """A way to make a base.

    Attributes:
        name: what it is called.
        about: a line for the report.
        kind: `federation` (ColD Fusion); `multitask` (the same examples in one place); or `single-task` (each seen task
            on its own, with its share of the examples).
        rounds: those whose bases are scored.
        average: whether the moving averages of the bases are scored in their place.
        attacks: contributors by what they send, such as `noise`.
        table: the settings of the federation, as nested tables.
    """

    name: str
    about: str
    kind: str
    rounds: Numbers
    average: bool
    attacks: Mapping[str, str]
    table: Mapping[str, Any]


@dataclass(frozen=True)
class Key:
    """Which score it is.

    Attributes:
        recipe: what made the base; `base` for the one before any round.
        seed: the repetition.
        round: after which the base was taken; 0 for bases that are not made in rounds.
        mode: `finetuned`, `frozen` or `few-shot`.
        task: what it was scored on.
    """

    recipe: str
    seed: int
    round: int
    mode: str
    task: str


@dataclass(frozen=True)
class Experiment:
    """An experiment.

    Attributes:
        name: the file's, without its ending.
        title: what it is, in a line.
        question: what it asks.
        seeds: one repetition each.
        folds: tasks that take turns in being unseen: seed s keeps fold (s - 1) mod their number unseen, and sees the
            others. Without folds, [run.tasks] says who is seen.
        scoring: how bases are scored.
        recipes: by name, in the order of the file; without the base itself.
        chosen: the names of those to do now.
        comparisons: pairs of recipes.
        without: groups of tasks by what they are called; means are also given without each. They may name tasks of
            the catalogues that take no part.
        home: the folder that relative paths begin at.
        repeated: the seeds to do now.
    """

    name: str
    title: str
    question: str
    seeds: Numbers
    folds: tuple[Names, ...]
    scoring: Scoring
    recipes: Mapping[str, Recipe]
    chosen: Names
    comparisons: tuple[Comparison, ...]
    without: Mapping[str, Names]
    home: Path
    repeated: Numbers

    def settings(self, recipe: Recipe, seed: int) -> Settings:
        """The settings of a recipe's federation with a seed."""
        table = merged(recipe.table, {"seed": seed, "evaluate": {"every": -1, "shots": 0}})
        if unseen := self.unseen_fold(seed):
            seen = [name for fold in self.folds if fold != unseen for name in fold]
            table = merged({"tasks": {"seen": seen}}, table)
            table = merged(table, {"tasks": {"unseen": list(unseen)}})
        settings = parse_settings(table, f"{self.name}.toml, recipe '{recipe.name}'")
        tasks = settings.tasks
        catalogues, root = resolve_catalogues(self.home, tasks.catalogue), resolve_from(self.home, tasks.data_root)
        base = str(self.home / settings.base) if (self.home / settings.base).is_dir() else settings.base
        tasks = tasks.model_copy(update={"catalogue": catalogues, "data_root": root})
        return settings.model_copy(update={"base": base, "tasks": tasks})

    def unseen_fold(self, seed: int) -> Names:
        """The tasks that a seed keeps unseen; none where there are no folds."""
        return self.folds[(seed - 1) % len(self.folds)] if self.folds else ()

    def only(self, seeds: Numbers, recipes: Names) -> "Experiment":
        """A part of the experiment; nothing named: all of it.

        Raises:
            SettingsError: a seed or a recipe is not in it.
        """
        for wanted, there, what in ((seeds, self.seeds, "seed"), (recipes, self.recipes, "recipe")):
            for name in wanted:
                if name not in there:
                    raise SettingsError(f"{self.name} has no {what} {name}; it has {', '.join(map(str, there))}.")
        chosen, repeated = tuple(dict.fromkeys(recipes)), tuple(dict.fromkeys(seeds))
        return replace(self, chosen=chosen or self.chosen, repeated=repeated or self.repeated)

    def base_settings(self, seed: int) -> Settings:
        """Settings in which a task is seen, unseen or both, as in any of the recipes: the base is scored on all."""
        all_settings = [self.settings(recipe, seed) for recipe in self.recipes.values()]
        seen = dict.fromkeys(name for one in all_settings for name in one.tasks.seen)
        unseen = dict.fromkeys(name for one in all_settings for name in one.tasks.unseen)
        tasks = all_settings[0].tasks.model_copy(update={"seen": tuple(seen), "unseen": tuple(unseen)})
        return all_settings[0].model_copy(update={"tasks": tasks})

    def all_keys(self) -> Iterator[Key]:
        """All scores of the experiment, in the order in which they are made: seed by seed, each last base first."""
        for seed in self.repeated:
            yield from self.keys_of(BASE, seed)
            for name in self.chosen:
                yield from self.keys_of(name, seed)

    def keys_of(self, name: str, seed: int) -> Iterator[Key]:
        """All scores of a recipe's bases, or of the base itself, with a seed."""
        recipe = self.recipes.get(name)
        tasks = (self.settings(recipe, seed) if recipe else self.base_settings(seed)).tasks
        roles = {"seen": tasks.seen, "unseen": tasks.unseen}
        if recipe and recipe.kind == "single-task":  # a base of one task is for that task
            del roles["unseen"]
        found = (
            Key(name, seed, number, mode, task)
            for number in sorted(recipe.rounds if recipe else (0,), reverse=True)
            for role, names in roles.items()
            for mode in self.scoring.modes(role)
            for task in names
        )
        yield from dict.fromkeys(found)  # the base's tasks may be both

    def describe(self) -> dict[str, Any]:
        """What holds for all scores, as nested tables."""
        settings = self.describe_recipe(next(iter(self.recipes.values())))["settings"]  # all begin with one base
        return {
            "name": self.name,
            "title": self.title,
            "question": self.question.strip(),
            "without": {group: list(names) for group, names in self.without.items()},
            "folds": [list(fold) for fold in self.folds],
            "base": {"model": settings["base"], "catalogue": settings["tasks"]["catalogue"]},
            "scoring": to_table(self.scoring),
            "comparisons": [to_table(pair) for pair in self.comparisons],
        }

    def describe_recipe(self, recipe: Recipe) -> dict[str, Any]:
        """What its bases depend on, as nested tables without places of this machine; seeds and folds are not in it."""
        settings = self.settings(recipe, self.seeds[0])
        table = to_table(settings)
        if self.folds:
            table["tasks"]["seen"], table["tasks"]["unseen"] = list(recipe.table.get("tasks", {}).get("seen", ())), []
        table["tasks"]["catalogue"] = [Path(name).name for name in settings.tasks.catalogue]
        table["base"] = Path(settings.base).name if Path(settings.base).is_dir() else settings.base
        # The server's probe is scored by these.
        table["evaluate"] = {key: table["evaluate"][key] for key in ("train-examples", "test-examples")}
        for key in ("simulation", "round-timeout", "node-timeout", "resume", "out", "seed"):
            del table[key]
        del table["tasks"]["data-root"]
        return {
            "about": recipe.about,
            "kind": recipe.kind,
            "average": recipe.average,
            "attacks": dict(recipe.attacks),
            "settings": table,
        }
