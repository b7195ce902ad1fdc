"""Does an experiment: makes each recipe's bases, scores them, and never does again what is done."""

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

from coldfusion_fl.atomic_files import exclusive_lock
from coldfusion_fl.cli.display import format_duration
from coldfusion_fl.config.settings import SimulationSettings
from coldfusion_fl.errors import MismatchError, RunError
from coldfusion_fl.training.batches import device_name

from .bases import Bases, Log, make_bases
from .jobs import ScoreJob, score
from .outcome import write_outcome
from .plan import BASE, Experiment, Key
from .scores import ScoreFile
from .worker_pool import WorkerPool

_SAY_EVERY = 60.0  # seconds
_TAKEN = "another process is at this experiment's bases. Wait for it, or end it."


class Runner:
    """An experiment under way.

    Args:
        experiment: what to do.
        scores: where the scores are kept; those that are there are not made again.
        work: the folder for bases. What is in it is used; it can be removed when the scores are whole.
        log: told what happens, a line each time.

    Raises:
        RunFolderError: the scores that are there are of another experiment.
    """

    def __init__(self, experiment: Experiment, scores: ScoreFile, work: Path, log: Log) -> None:
        self._experiment = experiment
        self._scores = scores
        self._work = work
        self._log = log
        recipes = {name: experiment.describe_recipe(recipe) for name, recipe in experiment.recipes.items()}
        scores.begin(experiment.describe(), recipes)

    @property
    def title(self) -> str:
        """The experiment's."""
        return self._experiment.title

    def size(self) -> int:
        """How many scores there are to make, those that are there among them."""
        return sum(1 for _ in self._experiment.all_keys())

    def left(self) -> list[Key]:
        """The scores that are not there yet."""
        return [key for key in self._experiment.all_keys() if key not in self._scores]

    def plan(self) -> Iterator[str]:
        """What is left to do, a line for each recipe and seed."""
        groups: dict[tuple[int, str], list[int]] = {}
        for key in self.left():
            groups.setdefault((key.seed, key.recipe), []).append(key.round)
        for (seed, name), numbers in groups.items():
            recipe = self._experiment.recipes.get(name)
            kind = f" ({recipe.kind})" if recipe else ""
            rounds = sorted(set(numbers) - {0})
            after = f", after round {', '.join(map(str, rounds))}" if rounds else ""
            yield f"seed {seed}, {name}{kind}: {len(numbers)} scores{after}"

    def run(self) -> None:
        """Do what is left to do: first the last bases of each recipe, seed by seed, then those of earlier rounds.

        So there is a whole repetition early, and how recipes compare is known before how they came there.

        Raises:
            RunError: some recipes failed; all that could be done is done, and kept.
        """
        share = self._experiment.base_settings(self._experiment.seeds[0]).simulation
        failed: list[str] = []
        self._work.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(self._work, _TAKEN), WorkerPool(_at_once(share), share.cpus) as worker_pool:
            repetitions = [
                (seed, name) for seed in self._experiment.repeated for name in (BASE, *self._experiment.chosen)
            ]
            broken = set()
            for last_alone, (seed, name) in itertools.product((True, False), repetitions):
                if (seed, name) in broken:
                    continue
                try:
                    self._do(name, seed, worker_pool, last_alone)
                except (MismatchError, RunError) as wrong:  # it would fail again: the others need not wait for it
                    broken.add((seed, name))
                    failed.append(f"{name}, seed {seed}: {wrong}")
                    self._log(f"FAILED: {failed[-1]}")
        if failed:
            raise RunError("some recipes failed:\n  " + "\n  ".join(failed))

    def _do(self, name: str, seed: int, worker_pool: WorkerPool, last_alone: bool) -> None:
        recipe = self._experiment.recipes.get(name)
        settings = self._experiment.settings(recipe, seed) if recipe else self._experiment.base_settings(seed)
        self._scores.note_roles(name, seed, {"seen": settings.tasks.seen, "unseen": settings.tasks.unseen})
        keys = list(self._experiment.keys_of(name, seed))
        last = max((key.round for key in keys), default=0)
        missing = [key for key in keys if key not in self._scores and (key.round == last or not last_alone)]
        if not missing:
            return
        bases = Bases(lambda key: None, {})
        if recipe:
            self._log(f"seed {seed}, {name}: making its bases")
            bases = make_bases(self._experiment, recipe, seed, self._work, worker_pool, self._log)
            self._scores.note_making(name, seed, {**bases.took, "device": device_name()})
        scoring = self._experiment.scoring
        jobs = {
            ScoreJob(settings.base, bases.file(key), key.task, settings.tasks, key.mode, scoring, seed): key
            for key in missing
        }
        began = told = time.monotonic()
        for done, (job, (value, about)) in enumerate(worker_pool.do(score, list(jobs)), start=1):
            self._scores.add(jobs[job], value, about)
            now = time.monotonic()
            if now - told > _SAY_EVERY or done == len(jobs):
                told, left = now, (now - began) / done * (len(jobs) - done)
                self._log(f"seed {seed}, {name}: {done} of {len(jobs)} scores, about {format_duration(left)} left")
        write_outcome(self._scores)


def _at_once(share: SimulationSettings) -> int:
    """As many processes as contributors would train at once."""
    by_cores = (os.cpu_count() or 1) // share.cpus
    return max(1, min(by_cores, int(1 / share.gpus)) if share.gpus else by_cores)
