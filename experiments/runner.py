"""Does an experiment: makes each recipe's bases, scores them, and never does again what is done."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from coldfusion_fl.checks import check_contents
from coldfusion_fl.display import spell
from coldfusion_fl.settings import Settings, to_table

from .federation import federate
from .plan import BASE, Experiment, Recipe, Scoring
from .scores import Key, ScoreFile
from .work import Crew, ToScore, ToTrain, score, train

Say = Callable[[str], None]
_SAY_EVERY = 60.0  # seconds


class Runner:
    """An experiment under way.

    Args:
        experiment: what to do.
        scores: where the scores are kept; those that are there are not made again.
        work: the folder for bases. What is in it is used; it can be removed when the scores are whole.
        say: told what happens, a line each time.

    Raises:
        RunFolderError: the scores that are there are of another experiment.
    """

    def __init__(self, experiment: Experiment, scores: ScoreFile, work: Path, say: Say) -> None:
        self._experiment = experiment
        self._scores = scores
        self._work = work
        self._say = say
        scores.begin(*describe(experiment))

    def run(self) -> None:
        """Do what is left to do, seed by seed, so that there is a whole repetition early.

        Raises:
            ColdFusionError: what went wrong. What was done before is kept.
        """
        share, cores = self._experiment.base_settings(self._experiment.seeds[0]).simulation, os.cpu_count() or 1
        at_once = max(1, cores // share.cpus)
        if share.gpus:
            at_once = max(1, min(at_once, int(1 / share.gpus)))
        with Crew(at_once, share.cpus) as self._crew:
            for seed in self._experiment.repeated:
                self._base(self._experiment.base_settings(seed), seed)
                for recipe in self._experiment.recipes.values():
                    self._recipe(recipe, self._experiment.settings(recipe, seed), seed)

    @property
    def size(self) -> int:
        """How many scores there are to make, those that are there among them."""
        return sum(1 for _ in planned(self._experiment))

    def plan(self) -> Iterator[str]:
        """What is left to do, a line for each recipe and seed."""
        for (seed, recipe), count in Counter((key.seed, key.recipe) for key in self.left()).items():
            about = self._experiment.recipes.get(recipe)
            made = f", {self._experiment.examples(self._experiment.settings(about, seed)):,} examples" if about else ""
            yield f"seed {seed}, {recipe}{made}: {count} scores"

    def left(self) -> list[Key]:
        """The scores that are not there yet."""
        return [key for key in planned(self._experiment) if key not in self._scores]

    def _base(self, settings: Settings, seed: int) -> None:
        self._note_roles(BASE, settings, seed)
        self._score(settings, list(self._missing(BASE, settings, seed, (0,))), seed, lambda key: None)

    def _recipe(self, recipe: Recipe, settings: Settings, seed: int) -> None:
        self._note_roles(recipe.name, settings, seed)
        missing = list(self._missing(recipe.name, settings, seed, recipe.rounds, recipe.kind))
        if not missing:
            return
        self._say(f"seed {seed}, {recipe.name}: {len(missing)} scores to make")
        make = {"federation": self._federate, "multitask": self._multitask, "single-task": self._single_task}
        encoder_of = make[recipe.kind](recipe, settings, seed)
        self._score(settings, missing, seed, encoder_of)

    def _federate(self, recipe: Recipe, settings: Settings, seed: int) -> Callable[[Key], Path]:
        folder = self._work / recipe.name / f"seed-{seed}"
        ledger, seconds = federate(settings, folder, recipe.saboteurs, self._say)
        if seconds:
            records = [ledger.record(number) for number in ledger.rounds()]
            found = [c["reported"] for record in records for c in record.get("contributions", {}).values()]
            examples = sum(facts.get("num-examples", 0) for facts in found)
            refused = sum(len(record.get("refused", [])) for record in records)
            facts = {"seconds": round(seconds), "examples": int(examples), "refused": refused}
            self._scores.note_making(recipe.name, seed, **facts)
        ledger.keep_arrays(recipe.rounds)  # gigabytes, else
        return lambda key: ledger.round_folder(key.round) / "base.safetensors"

    def _multitask(self, recipe: Recipe, settings: Settings, seed: int) -> Callable[[Key], Path]:
        file = self._work / recipe.name / f"seed-{seed}.safetensors"
        total = self._experiment.examples(settings)
        names = settings.tasks.seen
        piece = ToTrain(settings.base, names, settings.tasks, settings.finetune, total, seed, file)
        for _, seconds in self._crew.do(train, [piece]):
            self._note_training(recipe, seed, seconds, total)
        return lambda key: file

    def _single_task(self, recipe: Recipe, settings: Settings, seed: int) -> Callable[[Key], Path]:
        folder = self._work / recipe.name / f"seed-{seed}"
        names = settings.tasks.seen
        share = self._experiment.examples(settings) // len(names)
        pieces = [
            ToTrain(settings.base, (n,), settings.tasks, settings.finetune, share, seed, folder / f"{n}.safetensors")
            for n in names
        ]
        seconds = sum(seconds for _, seconds in self._crew.do(train, pieces))
        self._note_training(recipe, seed, seconds, share * len(names))
        return lambda key: folder / f"{key.task}.safetensors"

    def _note_training(self, recipe: Recipe, seed: int, seconds: float, examples: int) -> None:
        if seconds:
            self._scores.note_making(recipe.name, seed, seconds=round(seconds), examples=examples)

    def _score(
        self, settings: Settings, missing: list[Key], seed: int, encoder_of: Callable[[Key], Path | None]
    ) -> None:
        if not missing:
            return
        tasks, scoring = settings.tasks, self._experiment.scoring
        pieces = {
            ToScore(settings.base, encoder_of(key), key.task, tasks, key.mode, scoring, seed): key for key in missing
        }
        began, told = time.monotonic(), time.monotonic()
        for done, (piece, (value, about)) in enumerate(self._crew.do(score, list(pieces)), start=1):
            self._scores.add(pieces[piece], value, about)
            if time.monotonic() - told > _SAY_EVERY or done == len(pieces):
                told = time.monotonic()
                left = (told - began) / done * (len(pieces) - done)
                recipe = pieces[piece].recipe
                self._say(f"seed {seed}, {recipe}: {done} of {len(pieces)} scores, about {spell(left)} left")

    def _note_roles(self, recipe: str, settings: Settings, seed: int) -> None:
        roles = {"seen": list(settings.tasks.seen), "unseen": list(settings.tasks.unseen)}
        self._scores.note_roles(recipe, seed, roles)

    def _missing(
        self, recipe: str, settings: Settings, seed: int, rounds: Iterable[int], kind: str = "federation"
    ) -> Iterator[Key]:
        keys = _keys(recipe, settings, self._experiment.scoring, seed, rounds, kind)
        return (key for key in keys if key not in self._scores)


def check(experiment: Experiment) -> None:
    """Read every task and the base, before hours are spent.

    Raises:
        DataError: the rows of a task cannot be read or make no task.
        ModelError: the base cannot be loaded.
        SettingsError: a GPU is wanted where there is none.
    """
    checked = set()
    for recipe in experiment.recipes.values():
        for seed in experiment.repeated:
            settings = experiment.settings(recipe, seed)
            facts = (
                settings.base,
                settings.tasks.catalogue,
                tuple(sorted(settings.contributors)),
                settings.server.probe,
            )
            if facts not in checked:
                checked.add(facts)
                check_contents(settings, experiment.name)


def planned(experiment: Experiment) -> Iterator[Key]:
    """All scores of an experiment, in the order in which they are made."""
    for seed in experiment.repeated:
        yield from _keys(BASE, experiment.base_settings(seed), experiment.scoring, seed, (0,))
        for recipe in experiment.recipes.values():
            settings = experiment.settings(recipe, seed)
            yield from _keys(recipe.name, settings, experiment.scoring, seed, recipe.rounds, recipe.kind)


def _keys(
    recipe: str, settings: Settings, scoring: Scoring, seed: int, rounds: Iterable[int], kind: str = "federation"
) -> Iterator[Key]:
    roles = {"seen": settings.tasks.seen, "unseen": settings.tasks.unseen}
    if kind == "single-task":  # a base of one task is for that task
        roles["unseen"] = ()
    for number in sorted(rounds, reverse=True):  # the last base says most
        for role, names in roles.items():
            for mode in scoring.modes(role):
                for name in names:
                    yield Key(recipe, seed, number, mode, name)


def describe(experiment: Experiment) -> tuple[dict[str, Any], dict[str, Any]]:
    """What stands beside the scores: the experiment, and each recipe's settings, without places on this machine."""
    recipes = {}
    for recipe in experiment.recipes.values():
        settings = experiment.settings(recipe, experiment.seeds[0])
        bare = replace(settings, seed=0, out="", tasks=replace(settings.tasks, data_root=""))
        table = to_table(bare)
        told = recipe.table.get("tasks", {})
        if experiment.pool.tasks:
            table["tasks"]["seen"], table["tasks"]["unseen"] = list(told.get("seen", ())), []
        table["tasks"]["catalogue"] = [Path(name).name for name in settings.tasks.catalogue]
        table["base"] = str(recipe.table["base"])
        del table["simulation"], table["round-timeout"], table["resume"], table["out"], table["seed"], table["evaluate"]
        recipes[recipe.name] = {
            "about": recipe.about, "kind": recipe.kind, "saboteurs": dict(recipe.saboteurs), "settings": table
        }  # fmt: skip
    about = {
        "name": experiment.name,
        "title": experiment.title,
        "question": experiment.question,
        "tiny": list(experiment.tiny),
        "pool": to_table(experiment.pool),
        "scoring": to_table(experiment.scoring),
        "comparisons": [{"of": pair.of, "to": pair.to} for pair in experiment.comparisons],
    }
    return about, recipes
