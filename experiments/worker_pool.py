"""Pieces of an experiment's work, each done in one process: a score, a multitask training, a training alone."""

import functools
import math
import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.atomic_files import atomic_write, disk_errors
from coldfusion_fl.config.settings import FinetuneSettings, TaskSettings
from coldfusion_fl.data.task import Examples, Task, load_task
from coldfusion_fl.errors import RunError
from coldfusion_fl.evaluation.scores import score_task
from coldfusion_fl.model.base import Base, open_base
from coldfusion_fl.model.encoder import load_encoder, merge, new_model, split
from coldfusion_fl.process_tree import exit_with_parent
from coldfusion_fl.training.finetune import finetune
from coldfusion_fl.training.multitask import train_multitask
from coldfusion_fl.training.seeds import contributor_seed

from .plan import Scoring


@dataclass(frozen=True)
class ScoreJob:
    """A score to make.

    Attributes:
        base: the base's reference.
        encoder: the safetensors file of the encoder to score; None: the base's own.
        task: the task, of the catalogues and the data root of `tasks`.
        mode: `finetuned`, `frozen` or `few-shot`.
        scoring: how.
        seed: of rows, heads and training.
    """

    base: str
    encoder: Path | None
    task: str
    tasks: TaskSettings
    mode: str
    scoring: Scoring
    seed: int


@dataclass(frozen=True)
class TrainingJob:
    """An encoder to train on what contributors would have trained on.

    Attributes:
        base: the base's reference.
        names: the tasks.
        tasks: their catalogues and data root.
        together: all tasks at once, by multitask training; else it is one task.
        finetune: a contribution's training.
        contributions: how many of them a task would have made.
        seed: of the repetition.
        out: the safetensors file to write.
    """

    base: str
    names: tuple[str, ...]
    tasks: TaskSettings
    together: bool
    finetune: FinetuneSettings
    contributions: float
    seed: int
    out: Path

    def examples(self, task: Task) -> int:
        """How many a task's contributions see, counting each pass: a contribution has no more rows than its task."""
        tuning = self.finetune
        return max(1, round(self.contributions * tuning.epochs * min(tuning.examples, len(task.train))))


def score(job: ScoreJob) -> tuple[float, dict[str, Any]]:
    """Make a score.

    Returns:
        Points, and facts of the task: metric, head and number of test rows.
    """
    base = _base(job.base)
    task = _task(job.task, job.tasks)
    tuning, counts = job.scoring.finetune, job.scoring.evaluate
    is_choosing = job.scoring.split == "validation"
    if is_choosing:  # the rows that recipes are chosen by may not also stop a training
        held_out, left = _shared_out(task)
        task = replace(task, test=held_out, validation=left)
    made = score_task(base, _encoder(job.base, job.encoder), task, job.mode, tuning, counts, job.seed)
    return made.value, {"metric": made.metric, "head": made.head, "test-rows": made.test_examples}


def _shared_out(task: Task) -> tuple[Examples, Examples]:
    """The validation split in two: two thirds to score, and one that trainings look at to stop early."""
    rows = task.validation.draw(0, [7])
    middle = min(len(rows) - 1, max(1, 2 * len(rows) // 3))
    return rows.take(np.arange(middle)), rows.take(np.arange(middle, len(rows)))


def train(job: TrainingJob) -> tuple[float, int]:
    """Train an encoder, and keep it; one that is there is not trained again.

    Returns:
        The seconds that it took, and the examples that it saw, counting each pass.
    """
    if not job.out.exists():
        began = time.monotonic()
        encoder, seen = (_train_together if job.together else _train_alone)(job)
        facts = {"seconds": str(time.monotonic() - began), "examples": str(seen)}
        with disk_errors(job.out.parent), atomic_write(job.out) as file:
            save_file(encoder, file, facts)
    with safe_open(job.out, "numpy") as kept:
        facts = kept.metadata()
    return float(facts["seconds"]), int(facts["examples"])


def _train_together(job: TrainingJob) -> tuple[Encoder, int]:
    base, encoder = _base(job.base), _encoder(job.base, None)
    tasks = [_task(name, job.tasks) for name in job.names]
    examples = [job.examples(task) for task in tasks]
    seed = contributor_seed(job.seed, 0, "multitask")
    return train_multitask(base, encoder, tasks, job.finetune, examples, seed), sum(examples)


def _train_alone(job: TrainingJob) -> tuple[Encoder, int]:
    """As a contributor trains, but for as many examples at once as it would contribute in all rounds."""
    base, encoder = _base(job.base), _encoder(job.base, None)
    task = _task(job.names[0], job.tasks)
    examples = job.examples(task)
    schedule = job.finetune.model_copy(update={"epochs": math.ceil(examples / len(task.train))})
    # Not the seed of the scores: they would begin with the very head, and rows, that this ended with.
    seed = contributor_seed(job.seed, 0, f"alone: {task.name}")
    rows = task.train.draw(max(1, examples // schedule.epochs), [seed])
    model = new_model(base, task.num_labels, base.head(schedule.head), seed)
    merge(model, encoder)
    done = finetune(model, base.tokenizer, task, rows, schedule, seed, early_stop=False)
    return split(model, encoder.keys()), done.examples


class WorkerPool:
    """Processes that do pieces of work side by side: as a context, they end with it.

    Args:
        processes: how many.
        threads: of the processor, for each.
    """

    def __init__(self, processes: int, threads: int) -> None:
        self._processes, self._threads = processes, threads
        self._pool = self._new_pool()

    def _new_pool(self) -> ProcessPoolExecutor:
        began_by = (self._threads, os.getpid())
        return ProcessPoolExecutor(
            self._processes, mp_context=get_context("spawn"), initializer=_prepare, initargs=began_by
        )

    def __enter__(self) -> "WorkerPool":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def do(self, work: Any, jobs: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """Do pieces of work, and yield each with its result as it is done.

        Raises:
            ColdFusionError: what went wrong with one.
            RunError: a process ended; for other pieces there are new ones.
        """
        try:
            waiting: dict[Future[Any], Any] = {self._pool.submit(work, job): job for job in jobs}
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BrokenProcessPool:
            self._pool.shutdown(wait=True)
            self._pool = self._new_pool()
            raise RunError(
                "a process that trained or scored ended; was there too little memory? What was done is kept: start the "
                "experiment again to go on."
            ) from None


def _prepare(threads: int, parent: int) -> None:
    exit_with_parent(parent, lambda: os._exit(1))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started us
    torch.set_num_threads(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


@functools.lru_cache(maxsize=1)
def _base(reference: str) -> Base:
    return open_base(reference)


@functools.lru_cache(maxsize=2)
def _encoder(reference: str, file: Path | None) -> Encoder:
    return load_file(file) if file else load_encoder(_base(reference))


def _task(name: str, tasks: TaskSettings) -> Task:
    return load_task(name, tasks.catalogue, tasks.data_root)
