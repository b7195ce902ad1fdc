"""A classifier of one task, finetuned from a base."""

from dataclasses import dataclass

import numpy as np
from torch import nn

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.metrics import score
from coldfusion_fl.data.task import Task
from coldfusion_fl.errors import ErrorCode, MismatchError
from coldfusion_fl.model.base import Base
from coldfusion_fl.model.encoder import build_model, merge
from coldfusion_fl.training.batches import tokenize
from coldfusion_fl.training.finetune import FinetuneResult, Progress, finetune
from coldfusion_fl.training.predict import predict


@dataclass(frozen=True)
class TrainedClassifier:
    """A finetuned encoder with its head, and how good it is.

    Attributes:
        model: the encoder with the head, on the device that it was trained on.
        head: `class-token` or `mean`.
        train_rows: the number of training rows.
        result: the statistics of the training.
        score: of all rows of the test split, in points.
        baseline: the score of always predicting the most frequent class of train, or its mean, in points.
    """

    model: nn.Module
    head: str
    train_rows: int
    result: FinetuneResult
    score: float
    baseline: float


def train_classifier(
    base: Base, encoder: Encoder, task: Task, settings: FinetuneSettings, seed: int, progress: Progress | None = None
) -> TrainedClassifier:
    """Finetune a base with a new head on a task, with early stopping, and score it on all test rows.

    This is the finetuned score's training (paper, section 4.2), except that all rows of test are scored.

    Args:
        base: the base.
        encoder: its arrays by name, as `encoder.load_encoder` returns them.
        task: the task.
        settings: the schedule and the head. `examples` rows of train are drawn with the seed; 0: all rows.
        seed: of the drawn rows, the head and the training.
        progress: see `finetune`.

    Raises:
        MismatchError: the training diverged.
    """
    head = base.choose_head(settings.head)
    model = build_model(base, task.num_labels, head, seed)
    merge(model, encoder)
    rows = task.train.draw(settings.examples, [seed])
    result = finetune(model, base.tokenizer, task, rows, settings, seed, progress=progress)
    outputs = predict(model, base.tokenizer, tokenize(base.tokenizer, task.test, settings.max_length))
    if not np.isfinite(outputs).all():
        raise MismatchError(
            f"the training on '{task.name}' diverged. Lower the learning rate.", code=ErrorCode.TRAINING_DIVERGED
        )
    points = score(task.metric, task.test.labels, task.predictions(outputs))
    return TrainedClassifier(model, head, len(rows), result, points, task.baseline())
