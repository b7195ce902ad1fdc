"""The scores of an experiment in one JSON file, to which each score is added at once.

::

    {"experiment": {"title": ..., "base": {"model": ..., "catalogue": [...]}, "scoring": {...}, ...},
     "recipes": {NAME: its settings},
     "tasks": {TASK: {"metric": ..., "head": ..., "test-rows": ...}},
     "roles": {RECIPE: {SEED: {"seen": [TASK, ...], "unseen": [...]}}},
     "making": {RECIPE: {SEED: {"seconds": ..., ...}}},
     "scores": {RECIPE: {SEED: {ROUND: {MODE: {TASK: points}}}}}}
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from coldfusion_fl.atomic_files import disk_errors, write_json
from coldfusion_fl.config.comparison import differences
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.errors import RunFolderError

from .plan import BASE, RECIPE, Key, Scoring

_PARTS = ("experiment", "recipes", "tasks", "roles", "making", "scores")
# Parts of the experiment that must be the same for all scores, with their defaults.
_ALIKE: dict[str, Mapping[str, Any]] = {"base": {}, "scoring": to_table(Scoring())}
# Parts that may change when more scores are added.
_FREE = {"about", "rounds", "finetuned", "frozen", "few-shot"}


class ScoreFile:
    """The scores of an experiment.

    Args:
        path: the JSON file; it need not be there yet.

    Raises:
        RunFolderError: the file is not a file of scores.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: dict[str, Any] = {}
        if not path.exists():
            return
        try:
            self.facts = json.loads(path.read_text(encoding="utf-8"))
            _ = [self.facts[part].items() for part in _PARTS]
            _ = [self.facts["experiment"][part].items() for part in _ALIKE]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise RunFolderError(f"{path}: this is not a file of scores. Choose another --out folder.") from None

    def begin(self, experiment: Mapping[str, Any], recipes: Mapping[str, Any]) -> None:
        """Describe the scores; scores in the file must have the same description.

        A recipe that neither bases nor scores were made of yet may still change or go.

        Args:
            experiment: what holds for all scores, as nested tables.
            recipes: each one's settings, in the order of the reports.

        Raises:
            RunFolderError: the scores in the file are of another experiment or recipe; the message tells how.
        """
        begun = self.facts.get("scores", {}).keys() | self.facts.get("making", {}).keys()
        made = {name: recipe for name, recipe in self.facts.get("recipes", {}).items() if name in begun}
        if begun:
            for part, defaults in _ALIKE.items():
                self._check_same(part, self.facts["experiment"][part], experiment[part], defaults)
            for name, recipe in recipes.items():
                if name in made:
                    self._check_same(name, made[name], recipe, RECIPE)
        self.facts = {
            "experiment": experiment,
            "recipes": {**recipes, **{name: recipe for name, recipe in made.items() if name not in recipes}},
            **{part: self.facts.get(part, {}) for part in ("tasks", "making", "scores")},
            "roles": {name: roles for name, roles in self.facts.get("roles", {}).items() if name in begun},
        }

    def _check_same(
        self, name: str, then: Mapping[str, Any], now: Mapping[str, Any], defaults: Mapping[str, Any]
    ) -> None:
        if found := differences(then, json.loads(json.dumps(now)), _FREE, defaults):
            raise RunFolderError(
                f"{self.path}: its scores were made with other settings of '{name}'. Rename it, or use another folder "
                "with --out. The differences:\n  " + "\n  ".join(found)
            )

    def note_roles(self, recipe: str, seed: int, roles: Mapping[str, Any]) -> None:
        """Record the seen and unseen tasks of a recipe; of the base, those of all recipes.

        Raises:
            RunFolderError: the scores in the file are of other tasks.
        """
        known = self.facts["roles"].setdefault(recipe, {})
        now = {role: list(names) for role, names in roles.items()}
        if recipe == BASE:
            of_recipes = [seeds.get(str(seed), {}) for name, seeds in self.facts["roles"].items() if name != BASE]
            for role, names in now.items():
                names.extend(task for other in of_recipes for task in other.get(role, ()))
            known[str(seed)] = {role: list(dict.fromkeys(names)) for role, names in now.items()}
        elif known.setdefault(str(seed), now) != now:
            raise RunFolderError(
                f"{self.path} holds scores of '{recipe}', seed {seed}, with other seen and unseen tasks. Give the "
                "recipe another name, or choose another folder by --out."
            )

    def note_making(self, recipe: str, seed: int, facts: Mapping[str, Any]) -> None:
        """Record the cost of making the bases of a recipe; the device stays the first one that was recorded."""
        seeds = self.facts["making"].setdefault(recipe, {})
        device = seeds.get(str(seed), facts).get("device")  # existing bases may come from another machine
        seeds[str(seed)] = {**facts, "device": device}
        self.write()

    def __contains__(self, key: Key) -> bool:
        return key.task in self.at(key.recipe, key.seed, key.round, key.mode)

    def at(self, recipe: str, seed: int, number: int, mode: str) -> dict[str, float]:
        """The scores of a base in a mode, by task."""
        of_recipe = self.facts["scores"].get(recipe, {})
        scores: dict[str, float] = of_recipe.get(str(seed), {}).get(str(number), {}).get(mode, {})
        return scores

    def add(self, key: Key, score: float, about: Mapping[str, Any]) -> None:
        """Add a score and write the file.

        Args:
            key: which it is.
            score: in points.
            about: facts of the task that are the same for all of its scores.

        Raises:
            RunFolderError: the scores in the file were made with other facts, such as fewer rows.
        """
        self._check_same(key.task, self.facts["tasks"].setdefault(key.task, dict(about)), about, {})
        place = self.facts["scores"]
        for part in (key.recipe, str(key.seed), str(key.round), key.mode):
            place = place.setdefault(part, {})
        place[key.task] = round(score, 4)
        self.write()

    def write(self) -> None:
        """Write the file."""
        with disk_errors(self.path.parent):
            write_json(self.path, self.facts)

    def rounds(self, recipe: str) -> list[int]:
        """The rounds whose bases have scores."""
        return sorted({int(number) for seed in self.facts["scores"].get(recipe, {}).values() for number in seed})

    def seeds(self) -> list[int]:
        """The seeds that have scores."""
        return sorted({int(seed) for recipe in self.facts["scores"].values() for seed in recipe})

    def values(self, recipe: str, number: int, mode: str) -> Iterator[tuple[int, str, float]]:
        """Yield seed, task and score of a recipe's bases of a round in a mode."""
        for seed in self.facts["scores"].get(recipe, {}):
            for task, score in self.at(recipe, int(seed), number, mode).items():
                yield int(seed), task, score
