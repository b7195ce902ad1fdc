"""A classifier of one task, finetuned from a base."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from coldfusion_fl import __version__
from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.data.metrics import score
from coldfusion_fl.data.task import Task
from coldfusion_fl.errors import ErrorCode, MismatchError
from coldfusion_fl.evaluation.scores import hash_rows
from coldfusion_fl.model.base import Base
from coldfusion_fl.model.encoder import build_model, load_head, merge, split_head
from coldfusion_fl.training.batches import device_name, tokenize
from coldfusion_fl.training.checkpoint import TrainingCheckpoint
from coldfusion_fl.training.finetune import FinetuneResult, Progress, finetune
from coldfusion_fl.training.predict import predict


@dataclass(frozen=True)
class TrainedClassifier:
    """A finetuned encoder with its head, and how good it is.

    Attributes:
        model: the encoder with the head, on the device that it was trained on.
        head: `class-token` or `mean`.
        is_kept: whether the head is one that a contributor kept.
        train_rows: the number of training rows.
        result: the statistics of the training; None: encoder and head are as they were.
        score: of all rows of the test split, in points.
        baseline: the score of always predicting the most frequent class of train, or its mean, in points.
    """

    model: nn.Module
    head: str
    is_kept: bool
    train_rows: int
    result: FinetuneResult | None
    score: float
    baseline: float


def train_classifier(
    base: Base,
    encoder: Encoder,
    task: Task,
    settings: FinetuneSettings,
    seed: int,
    progress: Progress | None = None,
    *,
    kept_head: Encoder | None = None,
    trains: bool = True,
    checkpoint: TrainingCheckpoint | None = None,
) -> TrainedClassifier:
    """Finetune a base with a head on a task, with early stopping, and score it on all test rows.

    This is the finetuned score's training (paper, section 4.2), except that all rows of test are scored.

    Args:
        base: the base.
        encoder: its arrays by name, as `encoder.load_encoder` returns them.
        task: the task.
        settings: the schedule and the head. `examples` rows of train are drawn with the seed; 0: all rows.
        seed: of the drawn rows, the head and the training.
        progress: see `finetune`.
        kept_head: the arrays of the head to start with, as `encoder.split_head` returns them; None: a new head. The
            head of the settings is of its kind: see `find_head`.
        trains: whether to train; if not, encoder and head are scored as they are.
        checkpoint: see `finetune`.

    Raises:
        MismatchError: the training diverged.
    """
    head = base.choose_head(settings.head)
    model = build_model(base, task.num_labels, head, seed)
    merge(model, encoder)
    load_head(model, kept_head or {})
    rows = task.train.draw(settings.examples, [seed])
    result = None
    if trains:
        result = finetune(model, base.tokenizer, task, rows, settings, seed, progress=progress, checkpoint=checkpoint)
    outputs = predict(model, base.tokenizer, tokenize(base.tokenizer, task.test, settings.max_length))
    if not np.isfinite(outputs).all():
        raise MismatchError(
            f"the training on '{task.name}' diverged. Lower the learning rate.", code=ErrorCode.TRAINING_DIVERGED
        )
    points = score(task.metric, task.test.labels, task.predictions(outputs))
    return TrainedClassifier(model, head, kept_head is not None, len(rows), result, points, task.baseline())


def find_head(base: Base, encoder: Encoder, task: Task, kept_head: Encoder) -> str:
    """The kind of a head that a contributor kept: `class-token` or `mean`.

    Args:
        base: the base.
        encoder: its arrays by name.
        task: the task.
        kept_head: the arrays of the head by name.

    Raises:
        MismatchError: it is no head of this base with as many outputs as the task has classes.
    """
    found = {name: array.shape for name, array in kept_head.items()}
    for kind in ("class-token", "mean"):
        head = split_head(build_model(base, task.num_labels, kind, seed=0), encoder)
        if {name: array.shape for name, array in head.items()} == found:
            return kind
    raise MismatchError(
        f"the head that was kept for '{task.name}' does not fit: it has {_format_shapes(found)}. It was kept for "
        f"another model, or for other classes than the {task.num_labels} of the task.",
        code=ErrorCode.MODEL_UNSUPPORTED,
    )


def _format_shapes(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """Names and shapes of arrays in one line."""
    return ", ".join(f"{name} {shape}" for name, shape in shapes.items())


def training_checkpoint(
    file: Path,
    base: Base,
    encoder: Encoder,
    task: Task,
    settings: FinetuneSettings,
    seed: int,
    kept_head: Encoder | None,
) -> TrainingCheckpoint:
    """The checkpoint of a classifier's training.

    It continues only with the same model, tokens, rows, settings, seed, software and device.
    """
    identity = {
        "encoder": encoder_hash(encoder),
        "head": encoder_hash(kept_head) if kept_head else "",
        "rows": [hash_rows(task, rows) for rows in (task.train, task.validation)],
        "settings": to_table(settings),
        "seed": seed,
        "software": [__version__, torch.__version__, device_name()],
        "tokens": tokenize(base.tokenizer, task.train.take(np.arange(min(len(task.train), 8))), settings.max_length),
    }
    return TrainingCheckpoint(file, identity)
