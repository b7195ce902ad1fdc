"""The frozen score of a task against finetuning its head with the Trainer, the encoder frozen.

A thousand training rows and a thousand test rows of at most 128 tokens; three epochs, the Trainer's default, each with
a pass through the encoder. The Trainer has its default arguments, or bfloat16 and batches of 64 of like length.
"""

import time
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from coldfusion_fl.base import open_base
from coldfusion_fl.batches import tokenize
from coldfusion_fl.encoder import encoder_of, load_encoder
from coldfusion_fl.evaluate import evaluate
from coldfusion_fl.predict import predict
from coldfusion_fl.settings import EvaluateSettings, FinetuneSettings
from coldfusion_fl.tasks import load_task

from .table import Row
from .training import BASE, WAYS, Work


def frozen(rows: int = 1000, names: tuple[str, ...] = ("movie_sentiment",)) -> tuple[list[Row], Any]:
    """Time all in turn."""
    torch.set_num_threads(1)
    found = {}
    for name in names:
        task = load_task(name)
        work = Work(open_base(BASE), task, task.train.draw(rows, [0]), epochs=3, batch_size=64)
        _seconds("ours", replace(work, examples=work.examples.take(np.arange(16))), 16)  # everything is loaded now
        found[name] = {way: _seconds(way, work, rows) for way in ("trainer", "tuned", "ours")}
    lines = []
    for name, seconds in found.items():
        what = f"frozen score of {name} ({rows:,} + {rows:,} texts)"
        ratios = {way: [seconds[way] / seconds["ours"]] for way in seconds}
        against = "the head by the Trainer, encoder frozen"
        lines.append(Row(what, against, ratios["trainer"], ">= 8", "times faster"))
        lines.append(Row(what, f"{against}, bf16, batches of 64 of like length", ratios["tuned"], "", "times faster"))
    return lines, found


def _seconds(way: str, work: Work, rows: int) -> float:
    """Of a score; the model and the encoder are there before."""
    encoder, model, test = load_encoder(work.base), work.model(), work.task.test.draw(rows, [0])
    encoder_of(model).requires_grad_(False)
    began = time.perf_counter()
    if way == "ours":
        settings = EvaluateSettings(train_examples=len(work.examples), test_examples=rows)
        evaluate(work.base, encoder, work.task, "frozen", FinetuneSettings(), settings, 0)
    else:
        WAYS[way](model, work)
        outputs = predict(model, work.tokenizer, tokenize(work.tokenizer, test, work.max_length))
        work.task.score_outputs(outputs, test.labels)
    return time.perf_counter() - began
