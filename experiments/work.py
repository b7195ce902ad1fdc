"""Pieces of an experiment's work, each done in one process: a score, a multitask training, a training alone."""

import functools
import os
import signal
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from coldfusion_fl.base import Base, open_base
from coldfusion_fl.durable import aside
from coldfusion_fl.encoder import Encoder, load_encoder, merge, new_model, split
from coldfusion_fl.errors import RunError
from coldfusion_fl.evaluate import evaluate
from coldfusion_fl.finetune import finetune
from coldfusion_fl.multitask import train_multitask
from coldfusion_fl.settings import FinetuneSettings, TaskSettings
from coldfusion_fl.tasks import Task, load_task

from .plan import Scoring


@dataclass(frozen=True)
class ToScore:
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
class ToTrain:
    """An encoder to train.

    Attributes:
        base: the base's reference.
        names: the tasks: several make a multitask training.
        tasks: their catalogues and data root.
        finetune: the schedule, without its epochs.
        examples: how many are seen in all, counting each pass.
        seed: of rows, heads and training.
        out: the safetensors file to write.
    """

    base: str
    names: tuple[str, ...]
    tasks: TaskSettings
    finetune: FinetuneSettings
    examples: int
    seed: int
    out: Path


def score(piece: ToScore) -> tuple[float, dict[str, Any]]:
    """Make a score.

    Returns:
        Points, and facts of the task: metric, head and number of test rows.
    """
    base = _base(piece.base)
    task = _task(piece.task, piece.tasks)
    tuning, counts = piece.scoring.finetune, piece.scoring.evaluate
    is_choosing = piece.scoring.split == "validation"
    if is_choosing:  # the rows that recipes are chosen by may not also stop a training
        held_out, left = _halves(task)
        task = replace(task, test=held_out, validation=left)
    made = evaluate(base, _encoder(piece.base, piece.encoder), task, piece.mode, tuning, counts, piece.seed)
    return made.value, {"metric": made.metric, "head": made.head, "test-rows": made.test_examples}


def _halves(task: Task) -> tuple[Any, Any]:
    """The validation split in two: what is scored, and what trainings look at to stop early."""
    rows = task.validation.draw(0, [7])
    middle = max(1, 2 * len(rows) // 3)
    return rows.take(np.arange(middle)), rows.take(np.arange(middle, len(rows)))


def train(piece: ToTrain) -> float:
    """Train an encoder, and keep it; one that is there is not trained again.

    Returns:
        Seconds.
    """
    from safetensors.numpy import save_file

    began = time.monotonic()
    if piece.out.exists():
        return 0.0
    base, encoder = _base(piece.base), _encoder(piece.base, None)
    tasks = [_task(name, piece.tasks) for name in piece.names]
    if len(tasks) > 1:
        with _all_cores():  # nothing else is done meanwhile
            trained = train_multitask(base, encoder, tasks, piece.finetune, piece.examples, piece.seed)
    else:
        trained = _train_alone(base, encoder, tasks[0], piece)
    piece.out.parent.mkdir(parents=True, exist_ok=True)
    with aside(piece.out) as file:
        save_file(trained, file)
    return time.monotonic() - began


def _train_alone(base: Base, encoder: Encoder, task: Task, piece: ToTrain) -> Encoder:
    """As a contributor trains, but for as many examples at once as it would contribute in all rounds."""
    rows = task.train.draw(piece.examples, [piece.seed])
    schedule = replace(piece.finetune, epochs=max(1, round(piece.examples / len(rows))))
    model = new_model(base, task.num_labels, base.head(schedule.head), piece.seed)
    merge(model, encoder)
    finetune(model, base.tokenizer, task, rows, schedule, piece.seed)
    return split(model, encoder.keys())


class Crew:
    """Processes that do pieces of work side by side: as a context, they end with it.

    Args:
        processes: how many.
        threads: of the processor, for each.
    """

    def __init__(self, processes: int, threads: int) -> None:
        self._pool = ProcessPoolExecutor(
            processes, mp_context=get_context("spawn"), initializer=_prepare, initargs=(threads,)
        )

    def __enter__(self) -> "Crew":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind:
            for process in list((self._pool._processes or {}).values()):
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def do(self, work: Any, pieces: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """Do pieces of work, and yield each with its result as it is done.

        Raises:
            ColdFusionError: what went wrong with one.
            RunError: a process ended.
        """
        waiting: dict[Future[Any], Any] = {self._pool.submit(work, piece): piece for piece in pieces}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BrokenProcessPool:
            raise RunError(
                "a process that scored ended; was there too little memory? What was scored is kept: start the "
                "experiment again to go on."
            ) from None


@contextmanager
def _all_cores() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(os.cpu_count() or 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _prepare(threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started us
    torch.set_num_threads(threads)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


@functools.lru_cache(maxsize=1)
def _base(reference: str) -> Base:
    return open_base(reference)


@functools.lru_cache(maxsize=2)
def _encoder(reference: str, file: Path | None) -> Encoder:
    from safetensors.numpy import load_file

    return load_file(file) if file else load_encoder(_base(reference))


def _task(name: str, tasks: TaskSettings) -> Task:
    return load_task(name, tasks.catalogue, tasks.data_root)
