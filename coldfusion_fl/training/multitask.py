"""The centralised baseline: all rows in one place, one encoder, a head per task (Don-Yehiya et al. 2023, 4.3)."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.arrays.mismatch import find_mismatch
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.task import Task
from coldfusion_fl.errors import MismatchError
from coldfusion_fl.model.base import Base
from coldfusion_fl.model.encoder import encoder_of, merge, new_model, split
from coldfusion_fl.training.batches import device, shuffled, tokenize
from coldfusion_fl.training.compact_vocabulary import used_rows
from coldfusion_fl.training.fast_dropout import fast_dropout
from coldfusion_fl.training.finetune import Progress, Stepper, seeded


class MultitaskModel(nn.Module):
    """One encoder with a head per task.

    Args:
        models: a model with a head per task; the encoder of the first becomes everybody's.
    """

    base_model_prefix = "encoder"

    def __init__(self, models: Iterable[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList()
        for model in models:  # one after the other, so that there are never more than two encoders
            if not self.models:
                self.encoder = encoder_of(model)
            setattr(model, str(model.base_model_prefix), self.encoder)
            self.models.append(model)

    def forward(self, task: int, **batch: torch.Tensor) -> Any:
        """What the model of a task, by its number, says of a batch."""
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

    Batches of one task each, in a drawn order; each task passes over its rows as often as its examples take. AdamW with
    linear decay over all steps, as in `finetune.finetune`; there is no early stop.

    Args:
        base: for its architecture and tokenizer.
        encoder: what to begin with: arrays by name.
        tasks: the tasks.
        settings: learning rate, weight decay, batch size, texts' length and head.
        examples: how many of each task are seen, counting each pass.
        seed: of the heads, the rows, their order and the dropout.
        progress: called with (step, planned steps, loss) after each step.

    Returns:
        The encoder: arrays with the names and shapes of `encoder`.

    Raises:
        MismatchError: the training diverged.
    """
    head = base.head(settings.head)
    model = MultitaskModel(new_model(base, task.num_labels, head, seed + n) for n, task in enumerate(tasks))
    merge(model, encoder)
    model.to(device())
    rows = [
        tokenize(base.tokenizer, task.train.draw(count, [seed]), settings.max_length)
        for task, count in zip(tasks, examples, strict=True)
    ]
    order = np.random.default_rng([seed, 0])
    steps = [max(1, round(count / settings.batch_size)) for count in examples]
    streams = [_batches(base, task_rows, settings.batch_size, order) for task_rows in rows]
    turns = order.permutation(np.repeat(np.arange(len(tasks)), steps)).tolist()
    words = used_rows(model.encoder, [row for task_rows in rows for row in task_rows], base.tokenizer.pad_token_id)
    with seeded(seed), fast_dropout(model, seed), words as unused:
        step_on = Stepper(model, settings, len(turns))
        for step, task in enumerate(turns, start=1):
            unused.decay(step_on.learning_rate * settings.weight_decay)
            batch = {name: value.to(device()) for name, value in next(streams[task]).items()}
            loss = step_on({"task": task, **batch})
            if progress:
                progress(step, len(turns), loss.item())
    trained = split(model, encoder.keys())
    if reason := find_mismatch(encoder, trained):
        raise MismatchError(f"the multitask training went wrong: {reason}. Lower the learning rate.")
    return trained


def _batches(
    base: Base, rows: list[dict[str, Any]], size: int, order: np.random.Generator
) -> Iterator[dict[str, torch.Tensor]]:
    while True:
        yield from shuffled(base.tokenizer, rows, size, order)
