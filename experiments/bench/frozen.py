"""The frozen score of a task against finetuning its head with the Trainer, the encoder frozen.

A thousand training rows and a thousand test rows of at most 128 tokens. The Trainer has its default arguments: three
epochs, each with a pass through the encoder.
"""

from typing import Any

import torch

from coldfusion_fl.base import open_base
from coldfusion_fl.batches import tokenize
from coldfusion_fl.encoder import encoder_of, load_encoder
from coldfusion_fl.evaluate import evaluate
from coldfusion_fl.predict import predict
from coldfusion_fl.settings import EvaluateSettings, FinetuneSettings
from coldfusion_fl.tasks import Task, load_task

from .table import Row, in_turn
from .training import BASE, Work, trainer


def frozen(rows: int = 1000, names: tuple[str, ...] = ("movie_sentiment", "reuters_r8")) -> tuple[list[Row], Any]:
    """Time both in turn, for a task of short texts and one of long ones."""
    torch.set_num_threads(1)
    base = open_base(BASE)
    encoder = load_encoder(base)
    settings = EvaluateSettings(train_examples=rows, test_examples=rows)

    def by_trainer(task: Task) -> None:
        work = Work(base, task, task.train.draw(rows, [0]), epochs=3)
        model = work.model()
        encoder_of(model).requires_grad_(False)
        trainer(model, work)
        test = task.test.draw(rows, [0])
        task.score_outputs(predict(model, base.tokenizer, tokenize(base.tokenizer, test, 128)), test.labels)

    found = {}
    for name in names:
        task = load_task(name)
        ways = {
            "trainer": lambda task=task: by_trainer(task),
            "ours": lambda task=task: evaluate(base, encoder, task, "frozen", FinetuneSettings(), settings, 0),
        }
        found[name] = in_turn(ways, turns=1)
    ratios = [turn["trainer"] / turn["ours"] for turns in found.values() for turn in turns]
    what = f"frozen score of a task ({rows:,} + {rows:,} texts)"
    return [Row(what, "the head by the Trainer, encoder frozen", ratios, ">= 8", "times faster")], found
