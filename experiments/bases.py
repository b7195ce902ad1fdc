"""How a recipe's bases are made: by a federation, in one place, or each task alone."""

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
from coldfusion_fl.run.ledger import Ledger

from .federation import federate
from .plan import RECIPE, Experiment, Key, Recipe
from .worker_pool import TrainingJob, WorkerPool, train

Log = Callable[[str], None]


@dataclass(frozen=True)
class Bases:
    """The bases of a recipe and a seed.

    Attributes:
        file: where the encoder lies that a score is of; None: the base's own.
        took: seconds, examples (counting each pass) and rejected contributions.
    """

    file: Callable[[Key], Path | None]
    took: dict[str, Any]


def make_bases(
    experiment: Experiment, recipe: Recipe, seed: int, work: Path, worker_pool: WorkerPool, log: Log
) -> Bases:
    """Make a recipe's bases, as far as they are not there.

    Args:
        experiment: the recipe's.
        recipe: how.
        seed: of everything that is drawn.
        work: where bases are kept, of all recipes and seeds.
        worker_pool: who does it, but for federations, which have Ray's workers.
        log: told what happens, a line each time.

    Raises:
        RunFolderError: what is there was made in another way.
        ColdFusionError: what went wrong.
    """
    settings, place = experiment.settings(recipe, seed), work / recipe.name / f"seed-{seed}"
    with disk_errors(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
        _claim(place, experiment.describe_recipe(recipe), settings)
    if recipe.kind == "federation":
        return _federation(recipe, settings, place, log)
    return _trainings(recipe, settings, place, worker_pool)


def _claim(place: Path, recipe: dict[str, Any], settings: Settings) -> None:
    """Note beside a folder how the bases in it are made; those that are there must have been made so."""
    told = {key: value for key, value in recipe.items() if key not in ("about", "average")}
    tasks = {"seen": list(settings.tasks.seen), "unseen": list(settings.tasks.unseen)}
    now = json.loads(json.dumps({**told, "tasks": tasks, "seed": settings.seed}))
    file = place.with_name(f"{place.name}.json")
    if file.exists():
        if found := differences(json.loads(file.read_text(encoding="utf-8")), now, defaults=RECIPE):
            raise RunFolderError(
                f"{place} holds bases that were made in another way. Choose another folder by --work, or remove it and "
                f"{file.name}:\n  " + "\n  ".join(found)
            )
        return
    write_json(file, now)


def _federation(recipe: Recipe, settings: Settings, place: Path, log: Log) -> Bases:
    ledger = federate(settings, place, recipe.attacks, log)
    records = [ledger.record(number) for number in ledger.rounds()]
    reported = [sent["reported"] for record in records for sent in record.get("contributions", {}).values()]
    took = {
        "seconds": round(sum(record["ended"] - record["began"] for record in records if "began" in record)),
        "examples": int(sum(facts.get("num-examples", 0) for facts in reported)),
        "rejected": sum(len(record.get("rejected", [])) for record in records),
    }
    ledger.keep_arrays(recipe.rounds)  # gigabytes, else

    def file(key: Key) -> Path:
        folder = ledger.round_folder(key.round)
        if not (folder / "base.safetensors").exists():
            raise RunFolderError(
                f"The arrays in {folder} were not kept, as round {key.round} was not to be scored. Take it out of the "
                f"rounds to score, or remove {place} and {place.name}.json, so that the federation runs again."
            )
        return _blended(ledger, key.round, settings) if recipe.average else folder / "base.safetensors"

    return Bases(file, took)


def _blended(ledger: Ledger, number: int, settings: Settings) -> Path:
    """What a run that ended after this round would leave as its model-average."""
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
