"""Makes the bases of a recipe: by a federation, by multitask training, or by training on each task alone."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.numpy import save_file

from coldfusion_fl.aggregation.server_optimizer import blend
from coldfusion_fl.atomic_files import atomic_write, disk_errors, write_json
from coldfusion_fl.config.comparison import differences
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.errors import RunFolderError
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder
from coldfusion_fl.runs.ledger import Ledger

from .federation import federate
from .jobs import TrainingJob, train
from .plan import RECIPE, Experiment, Key, Recipe
from .worker_pool import WorkerPool

Log = Callable[[str], None]


@dataclass(frozen=True)
class Bases:
    """The bases of a recipe and a seed.

    Attributes:
        file: returns the file of the encoder that a score needs; None: the encoder of the base model.
        took: the seconds, the examples over all epochs, and the number of rejected contributions.
    """

    file: Callable[[Key], Path | None]
    took: dict[str, Any]


def make_bases(
    experiment: Experiment, recipe: Recipe, seed: int, work: Path, worker_pool: WorkerPool, log: Log
) -> Bases:
    """Make the bases of a recipe that do not exist yet.

    Args:
        experiment: the experiment of the recipe.
        recipe: the recipe.
        seed: the seed of the repetition.
        work: the folder for the bases of all recipes and seeds.
        worker_pool: trains; federations use Ray's processes instead.
        log: called with each line about the progress.

    Raises:
        RunFolderError: the bases in the folder were made by another recipe.
        ColdFusionError: a training or a federation failed.
    """
    settings, place = experiment.settings(recipe, seed), work / recipe.name / f"seed-{seed}"
    with disk_errors(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
        _claim(place, experiment.describe_recipe(recipe), settings)
    if recipe.kind == "federation":
        return _federation(recipe, settings, place, log)
    return _trainings(recipe, settings, place, worker_pool)


def _claim(place: Path, recipe: dict[str, Any], settings: Settings) -> None:
    """Record beside a folder by which recipe its bases are made; existing bases must be of the same recipe."""
    described = {key: value for key, value in recipe.items() if key not in ("about", "average")}
    tasks = {"seen": list(settings.tasks.seen), "unseen": list(settings.tasks.unseen)}
    now = json.loads(json.dumps({**described, "tasks": tasks, "seed": settings.seed}))
    file = place.with_name(f"{place.name}.json")
    if file.exists():
        if found := differences(json.loads(file.read_text(encoding="utf-8")), now, defaults=RECIPE):
            raise RunFolderError(
                f"{place} holds bases of another recipe. Choose another folder with --work, or remove the folder and "
                f"{file.name}. Differences:\n  " + "\n  ".join(found)
            )
        return
    write_json(file, now)


def _federation(recipe: Recipe, settings: Settings, place: Path, log: Log) -> Bases:
    ledger = federate(settings, place, recipe.attacks, log)
    records = ledger.records()
    reported = [sent.reported for record in records for sent in record.contributions.values()]
    took = {
        "seconds": round(sum(record.ended - record.began for record in records if record.began)),
        "examples": int(sum(facts.get("num-examples", 0) for facts in reported)),
        "rejected": sum(len(record.rejected) for record in records),
    }
    ledger.keep_arrays(recipe.rounds)  # the arrays of all rounds would need gigabytes

    def file(key: Key) -> Path:
        folder = ledger.round_folder(key.round)
        if not (folder / "base.safetensors").exists():
            raise RunFolderError(
                f"the arrays of round {key.round} are not in {folder}, because this round was not in 'rounds' when the "
                f"federation ran. Remove it from 'rounds', or delete {place} and {place.name}.json to run the "
                "federation again."
            )
        return _blended(ledger, key.round, settings) if recipe.average else folder / "base.safetensors"

    return Bases(file, took)


def _blended(ledger: Ledger, number: int, settings: Settings) -> Path:
    """What a run that ended after this round would leave as its result."""
    file = ledger.round_folder(number) / "blend.safetensors"
    if not file.exists():
        first = load_encoder(open_base(settings.base))
        with disk_errors(file.parent), atomic_write(file) as path:
            save_file(blend(first, ledger.load_average(number), settings.server.blend), path)
    return file


def _trainings(recipe: Recipe, settings: Settings, place: Path, worker_pool: WorkerPool) -> Bases:
    """One training on all tasks together, or one on each."""
    together, names = recipe.kind == "multitask", settings.tasks.seen
    contributions = settings.rounds * settings.contributors_per_round / len(names)
    files = {name: place / f"{'multitask' if together else name}.safetensors" for name in names}
    groups = [names] if together else [(name,) for name in names]
    jobs = [
        TrainingJob(
            settings.base, group, settings.tasks, together, settings.finetune, contributions, settings.seed,
            files[group[0]],
        )
        for group in groups
    ]  # fmt: skip
    place.mkdir(exist_ok=True)
    done = [took for _, took in worker_pool.do(train, jobs)]
    took = {"seconds": round(sum(seconds for seconds, _ in done)), "examples": sum(seen for _, seen in done)}
    return Bases(lambda key: files[names[0] if together else key.task], took)
