"""How good a base is on a task: finetuned, frozen and few-shot scores.

All scores are test scores in points. Each says which head it was: on a base that was pretrained with mean pooling, the
head decides more than fusing does.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.config.settings import MODES, EvaluateSettings, FinetuneSettings
from coldfusion_fl.data.metrics import score
from coldfusion_fl.data.task import Examples, Task
from coldfusion_fl.errors import SettingsError
from coldfusion_fl.model.base import Base
from coldfusion_fl.model.encoder import encoder_of, mean_pool, merge, new_model
from coldfusion_fl.training.batches import tokenize
from coldfusion_fl.training.finetune import finetune
from coldfusion_fl.training.predict import predict


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


def score_task(
    base: Base,
    encoder: Encoder,
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
            schedule = finetuning.model_copy(update={"epochs": settings.few_shot_epochs})
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
    encoder: Encoder,
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
    outputs = predict(model, base.tokenizer, tokenize(base.tokenizer, test, schedule.max_length))
    return task.score_outputs(outputs, test.labels)


def _frozen(
    base: Base,
    encoder: Encoder,
    task: Task,
    train: Examples,
    test: Examples,
    head: str,
    max_length: int,
    seed: int,
) -> float:
    """Encode once, then fit a linear probe: the frozen encoder never changes, so no training loop is needed."""
    from coldfusion_fl.evaluation.linear_probe import fit_probe

    model = new_model(base, task.num_labels, "class-token", seed)
    merge(model, encoder)
    pooler = any(name.startswith("pooler.") for name in encoder)
    module = _Features(encoder_of(model), head, pooler)
    known, asked = (
        predict(module, base.tokenizer, tokenize(base.tokenizer, part, max_length)) for part in (train, test)
    )
    return score(task.metric, test.labels, fit_probe(task, known, train.labels).predict(asked))


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
