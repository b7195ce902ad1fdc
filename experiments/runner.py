"""Runs an experiment: makes each recipe's bases and scores them, and repeats nothing that is done."""

import itertools
import os
import time
from collections.abc import Iterator
from pathlib import Path

from coldfusion_fl.atomic_files import exclusive_lock
from coldfusion_fl.config.settings import SimulationSettings
from coldfusion_fl.errors import MismatchError, RunError, count
from coldfusion_fl.formatting import duration
from coldfusion_fl.training.batches import device_name

from .bases import Bases, Log, make_bases
from .jobs import ScoreJob, score
from .outcome import write_outcome
from .plan import BASE, Experiment, Key
from .scores import ScoreFile
from .worker_pool import WorkerPool

_LOG_INTERVAL = 60.0  # seconds
_LOCKED = "another process makes this experiment's bases. Wait for it, or end it."


class Runner:
    """Runs an experiment, or the rest of it.

    Args:
        experiment: the experiment.
        scores: the file of the scores; scores in it are not made again.
        work: the folder for bases; bases in it are used. It can be removed when the experiment is complete.
        log: called with each line about the progress.

    Raises:
        RunFolderError: the scores in the file are those of another experiment.
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
        """The title of the experiment."""
        return self._experiment.title

    def size(self) -> int:
        """The number of scores of the whole experiment."""
        return sum(1 for _ in self._experiment.all_keys())

    def left(self) -> list[Key]:
        """The keys of the scores that are left."""
        return [key for key in self._experiment.all_keys() if key not in self._scores]

    def plan(self) -> Iterator[str]:
        """Describe what is left to do, in a line for each recipe and seed."""
        groups: dict[tuple[int, str], list[int]] = {}
        for key in self.left():
            groups.setdefault((key.seed, key.recipe), []).append(key.round)
        for (seed, name), numbers in groups.items():
            recipe = self._experiment.recipes.get(name)
            kind = f" ({recipe.kind})" if recipe else ""
            rounds = sorted(set(numbers) - {0})
            after = f", after round {', '.join(map(str, rounds))}" if rounds else ""
            yield f"seed {seed}, {name}{kind}: {count(len(numbers), 'score')}{after}"

    def run(self) -> None:
        """Do what is left: score first the last bases of all recipes, seed by seed, then those of earlier rounds.

        In this order, the recipes can be compared early, before the scores of earlier rounds show their courses.

        Raises:
            RunError: some recipes failed; everything else is done and saved.
        """
        share = self._experiment.base_settings(self._experiment.seeds[0]).simulation
        failed: list[str] = []
        self._work.mkdir(parents=True, exist_ok=True)
        with exclusive_lock(self._work, _LOCKED), WorkerPool(_at_once(share), share.cpus) as worker_pool:
            repetitions = [
                (seed, name) for seed in self._experiment.repeated for name in (BASE, *self._experiment.chosen)
            ]
            broken = set()
            for last_alone, (seed, name) in itertools.product((True, False), repetitions):
                if (seed, name) in broken:
                    continue
                try:
                    self._run_recipe(name, seed, worker_pool, last_alone)
                except (
                    MismatchError,
                    RunError,
                ) as wrong:  # do not try this recipe and seed again, but go on with the others
                    broken.add((seed, name))
                    failed.append(f"{name}, seed {seed}: {wrong}")
                    self._log(f"FAILED: {failed[-1]}")
        if failed:
            raise RunError("some recipes failed:\n  " + "\n  ".join(failed))

    def _run_recipe(self, name: str, seed: int, worker_pool: WorkerPool, last_alone: bool) -> None:
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
        began = logged = time.monotonic()
        for done, (job, (value, about)) in enumerate(worker_pool.do(score, list(jobs)), start=1):
            self._scores.add(jobs[job], value, about)
            now = time.monotonic()
            if now - logged > _LOG_INTERVAL or done == len(jobs):
                logged, left = now, (now - began) / done * (len(jobs) - done)
                self._log(f"seed {seed}, {name}: {done} of {len(jobs)} scores, about {duration(left)} left")
        write_outcome(self._scores)


def _at_once(share: SimulationSettings) -> int:
    """The number of processes: as many as contributors that would train at once."""
    by_cores = (os.cpu_count() or 1) // share.cpus
    return max(1, min(by_cores, int(1 / share.gpus)) if share.gpus else by_cores)
