"""How good a base is on a task: finetuned, frozen and few-shot scores.

All scores are test scores in points. Each says which head it was: on a base that was pretrained with mean pooling, the
head decides more than fusing does.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from transformers import PreTrainedTokenizerBase

from coldfusion_fl.base import Base
from coldfusion_fl.batches import autocast, batches, device, tokenize
from coldfusion_fl.encoder import encoder_of, mean_pool, merge, new_model
from coldfusion_fl.errors import SettingsError
from coldfusion_fl.finetune import finetune
from coldfusion_fl.metrics import METRICS, score
from coldfusion_fl.settings import MODES, EvaluateSettings, FinetuneSettings
from coldfusion_fl.tasks import Examples, Task

_BATCH = 64
_FOLDS = 3


@dataclass(frozen=True)
class Score:
    """A base's score on a task.

    Attributes:
        task: the task's name.
        mode: one of `settings.MODES`.
        metric: the task's metric.
        head: `class-token` or `mean`.
        value: in points; the mean over seeds, where there are several.
        train_examples: labelled rows that were learnt from.
        test_examples: rows that were scored.
    """

    task: str
    mode: str
    metric: str
    head: str
    value: float
    train_examples: int
    test_examples: int


def evaluate(
    base: Base,
    encoder: Mapping[str, np.ndarray],
    task: Task,
    mode: str,
    finetuning: FinetuneSettings,
    settings: EvaluateSettings,
    seed: int,
) -> Score:
    """Score an encoder on a task.

    Args:
        base: for its architecture and tokenizer.
        encoder: arrays by name, as `encoder.load_encoder` gives them.
        task: the task.
        mode: `finetuned` (paper: ColD), `frozen` (ColD-Frozen: a linear probe) or `few-shot`.
        finetuning: schedule and head.
        settings: how many rows, shots and seeds.
        seed: of the drawn rows, heads and training.

    Raises:
        SettingsError: the mode is unknown, or a few-shot score is wanted of no shots.
    """
    head = base.head(finetuning.head)
    test = task.test.draw(settings.test_examples, [0])
    match mode:
        case "frozen":
            train = task.train.draw(settings.train_examples, [seed])
            value = _frozen(base, encoder, task, train, test, head, finetuning.max_length, seed)
        case "few-shot":
            if not settings.shots:
                raise SettingsError("a few-shot score needs shots: set 'evaluate.shots' to 1 or more.")
            value, train = 0.0, task.train
            schedule = replace(finetuning, epochs=settings.few_shot_epochs)
            for draw in range(settings.few_shot_seeds):
                train = draw_shots(task, settings.shots, seed + draw)
                value += _finetuned(base, encoder, task, train, test, schedule, seed + draw, early_stop=False)
            value /= settings.few_shot_seeds
        case "finetuned":
            train = task.train.draw(finetuning.examples, [seed])
            value = _finetuned(base, encoder, task, train, test, finetuning, seed, early_stop=True)
        case _:
            raise SettingsError(f"unknown mode '{mode}'; known are {', '.join(MODES)}.")
    return Score(task.name, mode, task.metric, head, value, len(train), len(test))


def draw_shots(task: Task, shots: int, seed: int) -> Examples:
    """A few training rows: drawn by a seed, but of every class at least one, as far as the shots reach."""
    pool = task.train.draw(0, [seed])
    order = np.arange(len(pool))
    if task.classes is not None:
        _, first = np.unique(pool.labels, return_index=True)
        order = np.concatenate([np.sort(first), np.setdiff1d(order, first)])
    return pool.take(order[:shots])


def _finetuned(
    base: Base,
    encoder: Mapping[str, np.ndarray],
    task: Task,
    train: Examples,
    test: Examples,
    schedule: FinetuneSettings,
    seed: int,
    *,
    early_stop: bool,
) -> float:
    model = new_model(base, task.num_labels, base.head(schedule.head), seed)
    merge(model, encoder)
    finetune(model, base.tokenizer, task, train, schedule, seed, early_stop=early_stop)
    outputs = _outputs(model, base.tokenizer, test, schedule.max_length)
    return task.score_outputs(outputs, test.labels)


def _frozen(
    base: Base,
    encoder: Mapping[str, np.ndarray],
    task: Task,
    train: Examples,
    test: Examples,
    head: str,
    max_length: int,
    seed: int,
) -> float:
    """Encode once, then fit a linear probe: the frozen encoder never changes, so no training loop is needed."""
    model = new_model(base, task.num_labels, "class-token", seed)
    merge(model, encoder)
    pooler = any(name.startswith("pooler.") for name in encoder)
    module = _Features(encoder_of(model), head, pooler)
    known, asked = (_outputs(module, base.tokenizer, part, max_length) for part in (train, test))
    return score(task.metric, test.labels, _probe(task, known, train.labels).predict(asked))


def _probe(task: Task, features: np.ndarray, labels: np.ndarray) -> BaseEstimator:
    """A linear probe on standardised features; its penalty is chosen by cross-validation on the training rows alone.

    The best penalty differs a hundredfold between tasks of accuracy and of macro F1: a fixed one would favour some.
    """
    if task.classes is None:
        linear, grid = Ridge(), {"linear__alpha": [1.0, 10.0, 100.0, 1000.0]}
        folds = len(labels) >= _FOLDS
    else:
        counts = np.bincount(labels)
        if np.count_nonzero(counts) < 2:  # one class was drawn: there is nothing to fit
            return DummyClassifier().fit(features, labels)
        linear, grid = LogisticRegression(max_iter=200), {"linear__C": [0.01, 0.1, 1.0]}
        folds = counts.max() >= _FOLDS
    probe = Pipeline([("scale", StandardScaler()), ("linear", linear)])
    if folds:
        probe = GridSearchCV(probe, grid, cv=_FOLDS, scoring=make_scorer(METRICS[task.metric]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer rows than folds
        return probe.fit(features, labels)


class _Features(nn.Module):
    """What a head would read of an encoder: the mean of the hidden states, or the class token.

    The class token goes through the pooler only where the base has one: a pooler drawn by chance says nothing.
    """

    def __init__(self, encoder: nn.Module, head: str, pooler: bool) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.pooler = pooler

    def forward(self, **inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        output = self.encoder(**inputs)
        if self.head == "mean":
            return {"logits": mean_pool(output.last_hidden_state, inputs["attention_mask"])}
        return {"logits": output.pooler_output if self.pooler else output.last_hidden_state[:, 0]}


def _outputs(model: nn.Module, tokenizer: PreTrainedTokenizerBase, examples: Examples, max_length: int) -> np.ndarray:
    """The model's outputs for each row, shape (n, size), float32."""
    rows = tokenize(tokenizer, examples, max_length)
    place = device()
    model = model.to(place).eval()
    found: list[tuple[list[int], np.ndarray]] = []
    with torch.inference_mode(), autocast():
        for chosen, batch in batches(tokenizer, rows, _BATCH):
            outputs = model(**{name: value.to(place) for name, value in batch.items()})
            found.append((chosen, outputs["logits"].float().cpu().numpy()))
    result = np.empty((len(rows), found[0][1].shape[1]), np.float32)
    for chosen, values in found:
        result[chosen] = values
    return result
