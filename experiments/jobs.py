"""Jobs of an experiment, each done in one process: make a score, train on several tasks, train on one task."""

import functools
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.atomic_files import atomic_write, disk_errors
from coldfusion_fl.config.settings import FinetuneSettings, TaskSettings
from coldfusion_fl.data.task import Examples, Task, load_task
from coldfusion_fl.evaluation.scores import score_task
from coldfusion_fl.model.base import Base, open_base
from coldfusion_fl.model.encoder import build_model, load_encoder, merge, split
from coldfusion_fl.training.finetune import finetune
from coldfusion_fl.training.multitask import train_multitask
from coldfusion_fl.training.seeds import contributor_seed

from .plan import Scoring


@dataclass(frozen=True)
class ScoreJob:
    """A score to make.

    Attributes:
        base: the reference of the base model.
        encoder: the safetensors file of the encoder to score; None: the base's own encoder.
        task: the name of the task.
        tasks: the catalogues and the data root.
        mode: `finetuned`, `frozen` or `few-shot`.
        scoring: the split and the settings of the score.
        seed: of the sampled rows, the heads and the training.
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
    """An encoder to train on the rows that contributors would have trained on.

    Attributes:
        base: the reference of the base model.
        names: the names of the tasks.
        tasks: the catalogues and the data root.
        together: whether to train on all tasks at once (multitask training); if not, there is one task.
        finetune: the settings of a contribution's training.
        contributions: the number of contributions that a task would have made.
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
        """The number of examples over all contributions and epochs. A contribution has at most the rows of its task."""
        tuning = self.finetune
        return max(1, round(self.contributions * tuning.epochs * min(tuning.examples, len(task.train))))


def score(job: ScoreJob) -> tuple[float, dict[str, Any]]:
    """Make a score.

    Returns:
        The score in points; and the metric, the head and the number of test rows.
    """
    base = _base(job.base)
    task = _task(job.task, job.tasks)
    tuning, counts = job.scoring.finetune, job.scoring.evaluate
    if job.scoring.split == "validation":
        # Recipes are chosen by these scores, so early stopping must not see the same rows.
        held_out, left = _split_validation(task)
        task = replace(task, test=held_out, validation=left)
    made = score_task(base, _encoder(job.base, job.encoder), task, job.mode, tuning, counts, job.seed)
    return made.value, {"metric": made.metric, "head": made.head, "test-rows": made.test_examples}


def _split_validation(task: Task) -> tuple[Examples, Examples]:
    """Split the validation rows: two thirds for the score, one third for early stopping."""
    rows = task.validation.draw(0, [7])
    middle = min(len(rows) - 1, max(1, 2 * len(rows) // 3))
    return rows.take(np.arange(middle)), rows.take(np.arange(middle, len(rows)))


def train(job: TrainingJob) -> tuple[float, int]:
    """Train an encoder and write it to `job.out`, unless the file exists.

    Returns:
        The seconds of the training, and the number of examples over all epochs.
    """
    if not job.out.exists():
        began = time.monotonic()
        encoder, seen = (_train_together if job.together else _train_alone)(job)
        facts = {"seconds": str(time.monotonic() - began), "examples": str(seen)}
        with disk_errors(job.out.parent), atomic_write(job.out) as file:
            save_file(dict(encoder), file, facts)
    with safe_open(job.out, "numpy") as trained:
        facts = trained.metadata()
    return float(facts["seconds"]), int(facts["examples"])


def _train_together(job: TrainingJob) -> tuple[Encoder, int]:
    base, encoder = _base(job.base), _encoder(job.base, None)
    tasks = [_task(name, job.tasks) for name in job.names]
    examples = [job.examples(task) for task in tasks]
    seed = contributor_seed(job.seed, 0, "multitask")
    return train_multitask(base, encoder, tasks, job.finetune, examples, seed), sum(examples)


def _train_alone(job: TrainingJob) -> tuple[Encoder, int]:
    """Train as a contributor does, but at once on as many examples as it would see in all rounds."""
    base, encoder = _base(job.base), _encoder(job.base, None)
    task = _task(job.names[0], job.tasks)
    examples = job.examples(task)
    schedule = job.finetune.model_copy(update={"epochs": math.ceil(examples / len(task.train))})
    # A seed that differs from that of the scores, which would otherwise sample the same rows and the same head.
    seed = contributor_seed(job.seed, 0, f"alone: {task.name}")
    rows = task.train.draw(max(1, examples // schedule.epochs), [seed])
    model = build_model(base, task.num_labels, base.choose_head(schedule.head), seed)
    merge(model, encoder)
    done = finetune(model, base.tokenizer, task, rows, schedule, seed, early_stop=False)
    return split(model, encoder.keys()), done.examples


@functools.lru_cache(maxsize=1)
def _base(reference: str) -> Base:
    return open_base(reference)


@functools.lru_cache(maxsize=2)
def _encoder(reference: str, file: Path | None) -> Encoder:
    # The file of a round lacks arrays that its run did not change.
    return {**load_encoder(_base(reference)), **(load_file(file) if file else {})}


def _task(name: str, tasks: TaskSettings) -> Task:
    return load_task(name, tasks.catalogue, tasks.data_root)
