"""The frozen score of a task against finetuning its head with the Trainer, the encoder frozen.

A thousand training rows and a thousand test rows of at most 128 tokens. The Trainer has its default arguments: three
epochs, each with a pass through the encoder.
"""

import time
from typing import Any

import torch

from coldfusion_fl.config.settings import EvaluateSettings, FinetuneSettings
from coldfusion_fl.data.task import load_task
from coldfusion_fl.evaluation.scores import score_task
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import get_encoder, load_encoder
from coldfusion_fl.training.batches import tokenize
from coldfusion_fl.training.predict import predict

from .table import Row
from .training import BASE, Work, trainer


def frozen(turns: int = 2, rows: int = 1000, name: str = "movie_sentiment") -> tuple[list[Row], Any]:
    """Time both in turn."""
    torch.set_num_threads(1)
    ours(name, 16)  # everything is loaded now
    found = [{"trainer": theirs(name, rows), "ours": ours(name, rows)} for _ in range(turns)]
    what = f"frozen score of {name} ({rows:,} + {rows:,} texts)"
    ratios = [turn["trainer"] / turn["ours"] for turn in found]
    return [Row(what, "the head by the Trainer, encoder frozen", ratios, ">= 8", "times faster")], found


def ours(name: str, rows: int) -> float:
    """Seconds of a frozen score, the base and the task loaded."""
    base, task = open_base(BASE), load_task(name)
    encoder, settings = load_encoder(base), EvaluateSettings(train_examples=rows, test_examples=rows)
    began = time.perf_counter()
    score_task(base, encoder, task, "frozen", FinetuneSettings(), settings, 0)
    return time.perf_counter() - began


def theirs(name: str, rows: int) -> float:
    """Seconds of finetuning the head and of its score, the model made."""
    base, task = open_base(BASE), load_task(name)
    work = Work(base, task, task.train.draw(rows, [0]), epochs=3)
    model, test = work.model(), task.test.draw(rows, [0])
    get_encoder(model).requires_grad_(False)
    began = time.perf_counter()
    trainer(model, work)
    task.score_outputs(predict(model, base.tokenizer, tokenize(base.tokenizer, test, work.max_length)), test.labels)
    return time.perf_counter() - began
