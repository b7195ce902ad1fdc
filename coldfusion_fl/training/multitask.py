"""The centralised baseline: one encoder with one head per task, trained on all rows in one place.

Don-Yehiya et al. 2023, section 4.3.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.arrays.mismatch import find_mismatch
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.task import Task
from coldfusion_fl.errors import ErrorCode, MismatchError
from coldfusion_fl.model.base import Base
from coldfusion_fl.model.encoder import build_model, get_encoder, merge, split
from coldfusion_fl.model.frozen_weights import without_gradients
from coldfusion_fl.training.batches import device, shuffled_batches, tokenize
from coldfusion_fl.training.compact_vocabulary import compact_vocabulary
from coldfusion_fl.training.fast_dropout import fast_dropout
from coldfusion_fl.training.finetune import Progress, TrainingStep, torch_seed


class MultitaskModel(nn.Module):
    """One encoder with a head per task.

    Args:
        models: one model with a head per task. All share the encoder of the first one.
    """

    base_model_prefix = "encoder"

    def __init__(self, models: Iterable[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList()
        # `models` may be a generator: each model drops its own encoder before the next one is built, so that memory
        # never holds more than two encoders.
        for model in models:
            if not self.models:
                self.encoder = get_encoder(model)
            setattr(model, str(model.base_model_prefix), self.encoder)
            self.models.append(model)

    def forward(self, task: int, **batch: torch.Tensor) -> Any:
        """The output of the model of a task, given by its index, for a batch."""
        return self.models[task](**batch)


def train_multitask(
    base: Base,
    encoder: Encoder,
    tasks: Sequence[Task],
    settings: FinetuneSettings,
    examples: Sequence[int],
    seed: int,
    progress: Progress | None = None,
) -> Encoder:
    """Train one encoder on several tasks at once.

    Each batch has rows of one task, and the tasks' batches come in random order. A task repeats its rows until it has
    used its number of examples. The optimizer is AdamW with linear decay over all steps, as in `finetune.finetune`.
    There is no early stopping.

    Args:
        base: the base, for its architecture and tokenizer.
        encoder: the initial weights: arrays by name.
        tasks: the tasks.
        settings: learning rate, weight decay, batch size, maximum length, head, and what is frozen.
        examples: the number of examples per task, counted once per epoch.
        seed: the seed of the heads, the rows, their order and the dropout.
        progress: called after each step.

    Returns:
        The trained encoder: arrays with the names and shapes of `encoder`.

    Raises:
        MismatchError: the training diverged.
    """
    head = base.choose_head(settings.head)
    model = MultitaskModel(build_model(base, task.num_labels, head, seed + n) for n, task in enumerate(tasks))
    merge(model, encoder)
    model.to(device())
    rows = [
        tokenize(base.tokenizer, task.for_training(task.train.draw(limit, [seed])), settings.max_length)
        for task, limit in zip(tasks, examples, strict=True)
    ]
    # One generator draws the order of the tasks and, step by step, the batches of each.
    generator = np.random.default_rng([seed, 0])
    steps_per_task = [max(1, round(number / settings.batch_size)) for number in examples]
    batches_by_task = [_endless_batches(base, task_rows, settings.batch_size, generator) for task_rows in rows]
    task_order = generator.permutation(np.repeat(np.arange(len(tasks)), steps_per_task)).tolist()
    # The optimizer must be created inside the contexts: they replace the embedding whose weights it trains.
    all_rows = [row for task_rows in rows for row in task_rows]
    vocabulary = compact_vocabulary(model.encoder, all_rows, base.tokenizer.pad_token_id)
    frozen = without_gradients(model.encoder, settings.freeze)
    with torch_seed(seed), fast_dropout(model, seed), frozen, vocabulary as deferred_decay:
        train_step = TrainingStep(model, settings, len(task_order))
        for step, task in enumerate(task_order, start=1):
            deferred_decay.step(train_step.learning_rate * settings.weight_decay)
            batch = {name: value.to(device()) for name, value in next(batches_by_task[task]).items()}
            loss = train_step({"task": task, **batch})
            if progress:
                progress(step, len(task_order), loss.item())
    trained = split(model, encoder.keys())
    if reason := find_mismatch(encoder, trained):
        raise MismatchError(
            f"the multitask training diverged: {reason}. Lower the learning rate.", code=ErrorCode.TRAINING_DIVERGED
        )
    return trained


def _endless_batches(
    base: Base, rows: list[dict[str, Any]], size: int, generator: np.random.Generator
) -> Iterator[dict[str, torch.Tensor]]:
    while True:
        yield from shuffled_batches(base.tokenizer, rows, size, generator)
