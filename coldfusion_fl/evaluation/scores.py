"""The scores of a base on a task: finetuned, frozen (a linear probe) and few-shot.

All scores are test scores in points. Each score names its head, because on a base that was pretrained with mean
pooling the head changes the score more than fusing does.
"""

import functools
import hashlib
import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.config.settings import MODES, EvaluateSettings, FinetuneSettings
from coldfusion_fl.data.metrics import score
from coldfusion_fl.data.task import Examples, Task
from coldfusion_fl.errors import ErrorCode, MismatchError, SettingsError
from coldfusion_fl.evaluation.shared_features import SharedFeatures
from coldfusion_fl.model.base import Base
from coldfusion_fl.model.encoder import build_model, get_encoder, mean_pool, merge
from coldfusion_fl.training.batches import tokenize
from coldfusion_fl.training.finetune import finetune
from coldfusion_fl.training.predict import predict

_HASH_DIGITS = 12
# Of the shards of a data set, which a simulated worker scores one after the other.
_TEST_FEATURES = SharedFeatures()


@dataclass(frozen=True)
class Score:
    """A base's score on a task.

    Attributes:
        task: the task's name.
        mode: one of `settings.MODES`.
        metric: the task's metric.
        head: `class-token` or `mean`.
        value: the score, in points; for few-shot, the mean over the seeds.
        train_examples: the number of labelled rows that were trained on.
        test_examples: the number of rows that were scored.
        test_rows_hash: identifies these rows: two scores of a task can be compared if it is the same. 12 hex digits.
    """

    task: str
    mode: str
    metric: str
    head: str
    value: float
    train_examples: int
    test_examples: int
    test_rows_hash: str


@dataclass(frozen=True)
class Predictions:
    """What a score was computed from. It is about private rows, and stays on their machine.

    Attributes:
        labels: the labels of the test rows, shape (n,): class indices or numbers.
        predicted: the predictions, shape (draws, n); for few-shot one draw for each seed, else one.
    """

    labels: np.ndarray
    predicted: np.ndarray


def score_task(
    base: Base,
    encoder: Encoder,
    task: Task,
    mode: str,
    finetuning: FinetuneSettings,
    settings: EvaluateSettings,
    seed: int,
) -> Score:
    """Score an encoder on a task; see `score_and_predict`."""
    return score_and_predict(base, encoder, task, mode, finetuning, settings, seed)[0]


def score_and_predict(
    base: Base,
    encoder: Encoder,
    task: Task,
    mode: str,
    finetuning: FinetuneSettings,
    settings: EvaluateSettings,
    seed: int,
) -> tuple[Score, Predictions]:
    """Score an encoder on a task, and return the predictions too.

    The test rows are the same in every call. The training rows, heads and training depend on the seed.

    Args:
        base: the base, for its architecture and tokenizer.
        encoder: arrays by name, as `encoder.load_encoder` returns them.
        task: the task.
        mode: `finetuned` (paper: ColD), `frozen` (paper: ColD-Frozen; a linear probe) or `few-shot`.
        finetuning: the schedule and the head.
        settings: the numbers of rows, shots and seeds.
        seed: the seed of the drawn rows, the heads and the training.

    Raises:
        SettingsError: the mode is unknown, or a few-shot score has 0 shots.
        MismatchError: the encoder does not fit the base, or the model's outputs are not finite numbers.
    """
    head = base.choose_head(finetuning.head)
    test = task.test.draw(settings.test_examples, [0])
    match mode:
        case "frozen":
            train = task.train.draw(settings.train_examples, [seed])
            predicted = [_predict_frozen(base, encoder, task, train, test, head, finetuning.max_length, seed)]
        case "few-shot":
            if not settings.shots:
                raise SettingsError("a few-shot score needs shots: set 'evaluate.shots' to 1 or more.")
            predicted, train = [], task.train
            schedule = finetuning.model_copy(update={"epochs": settings.few_shot_epochs})
            # Scores of few rows vary with the rows and the head, so several draws are averaged. There is no early
            # stopping: a development split would be more labelled rows than the shots.
            for draw in range(settings.few_shot_seeds):
                train = draw_shots(task, settings.shots, seed + draw)
                predicted.append(
                    _predict_finetuned(base, encoder, task, train, test, schedule, seed + draw, early_stop=False)
                )
        case "finetuned":
            train = task.train.draw(finetuning.examples, [seed])
            predicted = [_predict_finetuned(base, encoder, task, train, test, finetuning, seed, early_stop=True)]
        case _:
            raise SettingsError(f"unknown mode '{mode}'; the modes are {', '.join(MODES)}.")
    value = sum(score(task.metric, test.labels, draw) for draw in predicted) / len(predicted)
    found = Score(task.name, mode, task.metric, head, value, len(train), len(test), hash_rows(task, test))
    return found, Predictions(test.labels, np.stack(predicted))


def hash_rows(task: Task, rows: Examples) -> str:
    """Identify rows of a task by their texts, pairs and labels, in their order; 12 hex digits."""
    labels = [task.classes[label] for label in rows.labels] if task.classes else rows.labels.tolist()
    content = json.dumps([rows.texts, rows.pairs, labels])
    return hashlib.sha256(content.encode()).hexdigest()[:_HASH_DIGITS]


def draw_shots(task: Task, shots: int, seed: int) -> Examples:
    """Draw a few training rows, with at least one row of each class if there are enough shots."""
    pool = task.train.draw(0, [seed])
    order = np.arange(len(pool))
    if task.classes is not None:
        # The first row of each class comes first, then all other rows in their drawn order.
        _, first_rows = np.unique(pool.labels, return_index=True)
        order = np.concatenate([np.sort(first_rows), np.setdiff1d(order, first_rows)])
    return pool.take(order[:shots])


def _predict_finetuned(
    base: Base,
    encoder: Encoder,
    task: Task,
    train: Examples,
    test: Examples,
    schedule: FinetuneSettings,
    seed: int,
    *,
    early_stop: bool,
) -> np.ndarray:
    model = build_model(base, task.num_labels, base.choose_head(schedule.head), seed)
    merge(model, encoder)
    finetune(model, base.tokenizer, task, train, schedule, seed, early_stop=early_stop)
    return task.predictions(_predict(model, base, task, test, schedule.max_length))


def _predict_frozen(
    base: Base,
    encoder: Encoder,
    task: Task,
    train: Examples,
    test: Examples,
    head: str,
    max_length: int,
    seed: int,
) -> np.ndarray:
    """The predictions of a linear probe on the encoder's features.

    A frozen encoder gives the same features in every epoch, so each text is encoded once, without a training loop.
    """
    from coldfusion_fl.evaluation.linear_probe import fit_probe

    model = build_model(base, task.num_labels, "class-token", seed)
    merge(model, encoder)
    has_pooler = any(name.startswith("pooler.") for name in encoder)
    extractor = _Features(get_encoder(model), head, has_pooler)
    train_features = _predict(extractor, base, task, train, max_length)
    encode = functools.partial(_predict, extractor, base, task, test, max_length)
    if task.shards > 1:
        test_features = _TEST_FEATURES.encode(base, encoder, test, head, max_length, encode)
    else:
        test_features = encode()
    predicted: np.ndarray = fit_probe(task, train_features, train.labels).predict(test_features)
    return predicted


def _predict(model: nn.Module, base: Base, task: Task, rows: Examples, max_length: int) -> np.ndarray:
    """The outputs of a model for rows, shape (n, size).

    Raises:
        MismatchError: an output is NaN or infinite. The class with the largest output would still be a number.
    """
    outputs = predict(model, base.tokenizer, tokenize(base.tokenizer, rows, max_length))
    if not np.isfinite(outputs).all():
        raise MismatchError(
            f"the model's outputs on '{task.name}' are not numbers, so it has no score. If the model was trained for "
            "the score, lower the learning rate; if not, check its weights.",
            code=ErrorCode.TRAINING_DIVERGED,
        )
    return outputs


class _Features(nn.Module):
    """The features that a head reads: the mean of the last hidden states, or the class token.

    The class token goes through the pooler only if the base has one. A randomly initialised pooler would only add
    noise to the features.
    """

    def __init__(self, encoder: nn.Module, head: str, has_pooler: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.has_pooler = has_pooler

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        output = self.encoder(**inputs)
        # Shape (batch, size), under the name that `predict` reads.
        if self.head == "mean":
            return {"logits": mean_pool(output.last_hidden_state, inputs["attention_mask"])}
        return {"logits": output.pooler_output if self.has_pooler else output.last_hidden_state[:, 0]}
