"""The plan of an experiment: its recipes, how their bases are scored, and the keys of all scores."""

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

# The name of the base before any round, from which every recipe starts.
BASE = "base"
Kind = Literal["federation", "multitask", "single-task"]
ROLES = ("seen", "unseen")
# The defaults of a recipe's description.
RECIPE = {"kind": "federation", "average": False, "settings": to_table(Settings(base=""))}


class Scoring(SettingsTable):
    """How every base is scored."""

    rounds: Numbers = Field(
        (),
        description="Rounds after which a federation's bases are scored. The last round is always scored.",
        examples=[[5, 10]],
    )
    finetuned: Names = Field(
        ROLES, description="Roles of the tasks that get a finetuned score: `seen`, `unseen`, both or none."
    )
    frozen: Names = Field(ROLES, description="The same for frozen scores.")
    few_shot: Names = Field(("unseen",), description="The same for few-shot scores.")
    split: Literal["test", "validation"] = Field(
        "test",
        description="Split that is scored: `test`; or `validation`, to choose among recipes. Early stopping never uses "
        "the scored rows.",
    )
    finetune: FinetuneSettings = Field(
        default_factory=FinetuneSettings, description="Settings of the training, and the head."
    )
    evaluate: EvaluateSettings = Field(
        default_factory=EvaluateSettings, description="Numbers of rows, shots and draws."
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for role in (*self.finetuned, *self.frozen, *self.few_shot):
            if role not in ROLES:
                raise SettingsError(f"[scoring]: tasks are 'seen' or 'unseen', not '{role}'.")
        if self.few_shot and not self.evaluate.shots:
            raise SettingsError("[scoring]: a few-shot score needs evaluate.shots of 1 or more; or set few-shot = [].")
        return self

    def modes(self, role: str) -> list[str]:
        """The modes in which a task of a role (`seen` or `unseen`) is scored."""
        wanted = {"finetuned": self.finetuned, "frozen": self.frozen, "few-shot": self.few_shot}
        return [mode for mode, roles in wanted.items() if role in roles]


class Comparison(SettingsTable):
    """Two recipes whose last bases are compared: the scores of `of` minus those of `to`."""

    of: str = Field(description="Name of a recipe.", examples=["momentum"])
    to: str = Field(BASE, description="Name of the recipe that it is compared with.", examples=["paper"])


@dataclass(frozen=True)
class Recipe:
    """A way to make a base.

    Attributes:
        name: the name of the recipe.
        about: a line for the report.
        kind: `federation` (ColD Fusion); `multitask` (the same examples in one place); or `single-task` (each seen task
            on its own, with its share of the examples).
        rounds: the rounds whose bases are scored.
        average: whether to score the moving average of the bases instead of the bases.
        attacks: attacks as text, such as `noise`, by contributor.
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
    """Identifies a score.

    Attributes:
        recipe: the recipe that made the base; `base` for the base before any round.
        seed: the repetition.
        round: the round that made the base; 0 for bases that are not made in rounds.
        mode: `finetuned`, `frozen` or `few-shot`.
        task: the task that the base was scored on.
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
        name: the name of the file, without its suffix.
        title: the title of the report.
        question: the question that the experiment answers.
        seeds: the seeds, one for each repetition.
        folds: tasks that take turns in being unseen: with seed s, fold (s - 1) modulo their number is unseen, and
            the others are seen. Without folds, [run.tasks] lists the seen tasks.
        scoring: how bases are scored.
        recipes: the recipes by name, in the order of the file; the base is not among them.
        chosen: the names of the recipes to run now.
        comparisons: pairs of recipes.
        without: groups of tasks by name; the report also has means without each group. A group may name tasks of the
            catalogues that the experiment does not use.
        home: the folder that relative paths start from.
        repeated: the seeds to run now.
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
        """The tasks that are unseen with a seed; empty without folds."""
        return self.folds[(seed - 1) % len(self.folds)] if self.folds else ()

    def only(self, seeds: Numbers, recipes: Names) -> "Experiment":
        """The experiment with some of its seeds and recipes; empty: all.

        Raises:
            SettingsError: the experiment does not have the seed or the recipe.
        """
        for wanted, there, what in ((seeds, self.seeds, "seed"), (recipes, self.recipes, "recipe")):
            for name in wanted:
                if name not in there:
                    raise SettingsError(f"{self.name} has no {what} {name}. It has: {', '.join(map(str, there))}.")
        chosen, repeated = tuple(dict.fromkeys(recipes)), tuple(dict.fromkeys(seeds))
        return replace(self, chosen=chosen or self.chosen, repeated=repeated or self.repeated)

    def base_settings(self, seed: int) -> Settings:
        """Settings for scoring the base: its seen and unseen tasks are those of all recipes together."""
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
        if recipe and recipe.kind == "single-task":  # a base of one task is scored on this task only
            del roles["unseen"]
        found = (
            Key(name, seed, number, mode, task)
            for number in sorted(recipe.rounds if recipe else (0,), reverse=True)
            for role, names in roles.items()
            for mode in self.scoring.modes(role)
            for task in names
        )
        yield from dict.fromkeys(found)  # a task of the base may be seen and unseen, in different recipes

    def describe(self) -> dict[str, Any]:
        """Describe the experiment as nested tables: everything that is the same for all scores."""
        settings = self.describe_recipe(next(iter(self.recipes.values())))[
            "settings"
        ]  # all recipes start from the same base
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
        """Describe a recipe as nested tables: what its bases depend on, without paths, seeds and folds."""
        settings = self.settings(recipe, self.seeds[0])
        table = to_table(settings)
        if self.folds:
            table["tasks"]["seen"], table["tasks"]["unseen"] = list(recipe.table.get("tasks", {}).get("seen", ())), []
        table["tasks"]["catalogue"] = [Path(name).name for name in settings.tasks.catalogue]
        table["base"] = Path(settings.base).name if Path(settings.base).is_dir() else settings.base
        # These settings apply to the server's validation task.
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
