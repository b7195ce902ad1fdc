"""How long a run will take on this machine: a few batches are trained and scored, and the rest is multiplication."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.data.task import Examples, Task
from coldfusion_fl.model.base import Base
from coldfusion_fl.model.encoder import build_model, merge
from coldfusion_fl.preflight.token_counts import count_tokens
from coldfusion_fl.training.batches import tokenize
from coldfusion_fl.training.finetune import finetune
from coldfusion_fl.training.predict import predict

_TIMED_BATCHES = 6
_SAMPLE_ROWS = 500
# Longer texts are not counted further: no usual encoder has more positions.
_MOST_TOKENS = 512


@dataclass(frozen=True)
class Speed:
    """What this machine needs for a token of a text, in seconds.

    Attributes:
        training: of a training step.
        scoring: of a prediction.
    """

    training: float
    scoring: float


def token_lengths(base: Base, task: Task) -> np.ndarray:
    """The numbers of tokens of some train rows, shape (n,): at most 500 rows, and at most 512 tokens of each.

    Raises:
        DataError: the tokenizer cannot read a row.
    """
    sample = task.train.draw(_SAMPLE_ROWS, [0])
    return count_tokens(base, sample, _MOST_TOKENS, "train", 0).lengths


def measure_speed(base: Base, encoder: Encoder, task: Task, settings: Settings) -> Speed:
    """Train and score a few batches of a task, with as many threads as a worker of a simulation has.

    Args:
        base: the base.
        encoder: its arrays by name.
        task: the task.
        settings: the run's settings, for the batches and the number of threads.
    """
    finetuning = settings.finetune.model_copy(update={"epochs": 1})
    rows = task.train.draw(_TIMED_BATCHES * finetuning.batch_size, [0])
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.simulation.cpus)
    try:
        model = build_model(base, task.num_labels, base.choose_head(finetuning.head), seed=0)
        merge(model, encoder)
        tokens = _tokens(base, rows, finetuning.max_length)
        trained = finetune(model, base.tokenizer, task, rows, finetuning, seed=0, early_stop=False)
        began = time.monotonic()
        predict(model, base.tokenizer, tokenize(base.tokenizer, rows, finetuning.max_length))
        return Speed(trained.seconds / tokens, (time.monotonic() - began) / tokens)
    finally:
        torch.set_num_threads(threads)


def _tokens(base: Base, rows: Examples, max_length: int) -> int:
    return sum(len(row["input_ids"]) for row in tokenize(base.tokenizer, rows, max_length))


def estimate_seconds(
    settings: Settings, tasks: Sequence[Task], lengths: Sequence[np.ndarray], speed: Speed, workers: int
) -> float:
    """The time of all rounds and evaluations of a run without unseen tasks, in seconds.

    The start and the checks are not in it. Early stopping may end a training sooner, so this is rather too long.

    Args:
        settings: the run's settings.
        tasks: the seen tasks.
        lengths: for each task, the numbers of tokens of its texts, as of `token_lengths`.
        speed: what `measure_speed` found.
        workers: the number of contributors that train at the same time.
    """
    mean = [float(np.minimum(found, settings.finetune.max_length).mean()) for found in lengths]
    training = [_training(settings, task, tokens, speed) for task, tokens in zip(tasks, mean, strict=True)]
    scoring = [_frozen_score(settings, task, tokens, speed) for task, tokens in zip(tasks, mean, strict=True)]
    a_round = _side_by_side(training, settings.contributors_per_round, workers)
    return settings.rounds * a_round + _evaluations(settings) * _side_by_side(scoring, len(scoring), workers)


def _side_by_side(seconds: Sequence[float], number: int, workers: int) -> float:
    """The time of a number of works, which take one of these times each, where workers share them."""
    return max(*seconds, sum(seconds) / len(seconds) * math.ceil(number / workers))


def _training(settings: Settings, task: Task, tokens: float, speed: Speed) -> float:
    """One contribution: epochs over the drawn rows, and a development score after each."""
    finetuning = settings.finetune
    rows = min(finetuning.examples or len(task.train), len(task.train))
    dev = min(finetuning.dev_examples, len(task.validation))
    return finetuning.epochs * tokens * (rows * speed.training + dev * speed.scoring)


def _frozen_score(settings: Settings, task: Task, tokens: float, speed: Speed) -> float:
    """The score of one base on one task: a linear probe on the outputs for some train rows, and the test rows."""
    chosen = settings.evaluate
    rows = min(chosen.train_examples, len(task.train)) + min(chosen.test_examples, len(task.test))
    return tokens * rows * speed.scoring


def _evaluations(settings: Settings) -> int:
    """The number of bases that are scored: the first one, some of the rounds', and the last."""
    every = settings.evaluate.every
    return 0 if every < 0 else 2 if every == 0 else 1 + math.ceil(settings.rounds / every)
