"""How a recipe's bases are made: by a federation, in one place, or each task alone."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coldfusion_fl.settings import Settings

from .federation import federate
from .plan import Experiment, Key, Recipe
from .work import Crew, ToTrain, train

Say = Callable[[str], None]


@dataclass(frozen=True)
class Bases:
    """The bases of a recipe and a seed.

    Attributes:
        file: where the encoder lies that a score is of; None: the base's own.
        took: seconds, examples (counting each pass) and refused contributions; empty where all was there already.
    """

    file: Callable[[Key], Path | None]
    took: dict[str, Any]


def make_bases(experiment: Experiment, recipe: Recipe, seed: int, work: Path, crew: Crew, say: Say) -> Bases:
    """Make a recipe's bases, as far as they are not there.

    Args:
        experiment: the recipe's.
        recipe: how.
        seed: of everything that is drawn.
        work: where bases are kept, of all recipes and seeds.
        crew: who does it, but for federations, which have Ray's workers.
        say: told what happens, a line each time.

    Raises:
        ColdFusionError: what went wrong.
    """
    settings, place = experiment.settings(recipe, seed), work / recipe.name / f"seed-{seed}"
    match recipe.kind:
        case "federation":
            return _federation(recipe, settings, place, say)
        case "multitask":
            return _multitask(settings, experiment.examples(settings), place / "encoder.safetensors", crew)
        case _:
            return _single_tasks(settings, experiment.examples(settings), place, crew)


def _federation(recipe: Recipe, settings: Settings, place: Path, say: Say) -> Bases:
    ledger, seconds = federate(settings, place, recipe.saboteurs, say)
    records = [ledger.record(number) for number in ledger.rounds()]
    reported = [sent["reported"] for record in records for sent in record.get("contributions", {}).values()]
    took = {
        "seconds": round(seconds),
        "examples": int(sum(facts.get("num-examples", 0) for facts in reported)),
        "refused": sum(len(record.get("refused", [])) for record in records),
    }
    ledger.keep_arrays(recipe.rounds)  # gigabytes, else
    name = "average.safetensors" if recipe.average else "base.safetensors"
    return Bases(lambda key: ledger.round_folder(key.round) / name, took if seconds else {})


def _multitask(settings: Settings, examples: int, file: Path, crew: Crew) -> Bases:
    names = settings.tasks.seen
    piece = ToTrain(settings.base, names, settings.tasks, settings.finetune, examples, settings.seed, file)
    return Bases(lambda key: file, _trained(crew, [piece]))


def _single_tasks(settings: Settings, examples: int, folder: Path, crew: Crew) -> Bases:
    def file(task: str) -> Path:
        return folder / f"{task}.safetensors"

    tasks, tuning = settings.tasks, settings.finetune
    share = examples // len(tasks.seen)
    pieces = [ToTrain(settings.base, (name,), tasks, tuning, share, settings.seed, file(name)) for name in tasks.seen]
    return Bases(lambda key: file(key.task), _trained(crew, pieces))


def _trained(crew: Crew, pieces: list[ToTrain]) -> dict[str, Any]:
    seconds = sum(seconds for _, seconds in crew.do(train, pieces))
    return {"seconds": round(seconds), "examples": sum(piece.examples for piece in pieces)} if seconds else {}
