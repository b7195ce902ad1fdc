"""A contributor's local finetuning.

A loop of our own: on a processor the Hugging Face Trainer spends a sixth of a step on itself, another on rows of the
vocabulary that no text uses (`vocabulary`), and up to a third on drawing dropout (`fast_dropout`).
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import AdamW
from transformers import PreTrainedTokenizerBase, get_linear_schedule_with_warmup

from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.task import Examples, Task
from coldfusion_fl.model.encoder import encoder_of
from coldfusion_fl.training.batches import autocast, device, shuffled, tokenize
from coldfusion_fl.training.compact_vocabulary import used_rows
from coldfusion_fl.training.fast_dropout import fast_dropout
from coldfusion_fl.training.predict import predict

# The paper stops when the development score gains less than this ...
_GAIN = 0.1  # points
# ... over so many examples. Smaller data are given `patience` epochs instead, where those are fewer.
_PAPER_PATIENCE = 256_000
_LONGEST_GRADIENT = 1.0
_TELL_EVERY = 0.5  # seconds: no display shows more

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Finetuned:
    """What a finetuning was.

    Attributes:
        loss: mean training loss of the last tenth of the steps.
        dev_score: the last development score, in points; NaN where there was none.
        examples: examples seen, counting each pass.
        steps: optimiser steps.
        seconds: wall time of the training, tokenising included.
    """

    loss: float
    dev_score: float
    examples: int
    steps: int
    seconds: float


def finetune(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    examples: Examples,
    settings: FinetuneSettings,
    seed: int,
    *,
    early_stop: bool = True,
    progress: Progress | None = None,
) -> Finetuned:
    """Finetune a model with a head on examples of a task, in place.

    AdamW (β = 0.9, 0.999) with linear decay, gradients clipped to a norm of 1, bfloat16 autocast where it is native,
    batches of like length in a drawn order. With `early_stop`, the development split is scored once an epoch, and the
    training ends when the best score gained less than 0.1 points over the patience: `settings.patience` epochs, or the
    paper's 256K examples where those are fewer. The same seed on the same machine gives the same weights.

    Args:
        model: encoder and head, as `encoder.new_model` makes it.
        tokenizer: the base's.
        task: for its development split and metric.
        examples: the training rows.
        settings: the schedule.
        seed: of the order of the rows and of the dropout.
        early_stop: whether to look at the development split at all.
        progress: called with (step, planned steps, loss) a few times a second at most.
    """
    started = time.monotonic()
    rows = tokenize(tokenizer, examples, settings.max_length)
    dev = task.validation.draw(settings.dev_examples, [0])
    dev_rows = tokenize(tokenizer, dev, settings.max_length) if early_stop else []
    per_epoch = math.ceil(len(rows) / settings.batch_size)
    planned = per_epoch * settings.epochs
    score_every = min(per_epoch, math.ceil(_PAPER_PATIENCE / 4 / settings.batch_size))
    stop = EarlyStop(min(_PAPER_PATIENCE, settings.patience * len(rows)))
    losses: list[torch.Tensor] = []
    seen, told, dev_score = 0, started, math.nan
    place = device()
    model.to(place)
    words = used_rows(encoder_of(model), [*rows, *dev_rows], tokenizer.pad_token_id)
    with seeded(seed), fast_dropout(model, seed), words as unused:
        step_on = Stepper(model, settings, planned)
        for batch in _epochs(tokenizer, rows, settings, seed):
            unused.decay(step_on.learning_rate * settings.weight_decay)
            losses.append(step_on({name: value.to(place) for name, value in batch.items()}))
            seen, step = seen + len(batch["labels"]), len(losses)
            if progress and (step == planned or time.monotonic() - told > _TELL_EVERY):
                told = time.monotonic()
                progress(step, planned, losses[-1].item())
            if early_stop and step % score_every == 0:
                dev_score = task.score_outputs(predict(model, tokenizer, dev_rows), dev.labels)
                if stop.is_due(dev_score, seen):
                    break
    tail = torch.stack(losses[-max(1, len(losses) // 10) :])
    return Finetuned(float(tail.mean()), dev_score, seen, len(losses), time.monotonic() - started)


class EarlyStop:
    """The paper's rule: stop when the development score gains less than 0.1 points over so many examples.

    Args:
        patience: examples.
    """

    def __init__(self, patience: float) -> None:
        self._patience = patience
        self._best = -math.inf
        self._best_at = 0

    def is_due(self, score: float, seen: int) -> bool:
        """Note a development score, in points, after so many examples; whether patience is over."""
        if score - self._best >= _GAIN:
            self._best, self._best_at = score, seen
            return False
        return seen - self._best_at >= self._patience


class Stepper:
    """One step of the optimiser after the other, on batches with labels.

    Args:
        model: its output has a `loss`.
        settings: learning rate and weight decay.
        planned: steps; the learning rate decays linearly to 0 over them.
    """

    def __init__(self, model: nn.Module, settings: FinetuneSettings, planned: int) -> None:
        self._model = model
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        groups = [
            {"params": [w for w in weights if w.ndim > 1], "weight_decay": settings.weight_decay},
            # Biases and norms are not decayed, as everywhere.
            {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
        ]
        self._optimiser = AdamW(groups, lr=settings.learning_rate, fused=True)
        self._schedule = get_linear_schedule_with_warmup(self._optimiser, 0, planned)

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return float(self._schedule.get_last_lr()[0])

    def __call__(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Learn from a batch; its mean loss, shape (), float32, which nothing has waited for yet."""
        self._model.train()
        with autocast():
            loss: torch.Tensor = self._model(**batch)["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), _LONGEST_GRADIENT)
        self._optimiser.step()
        self._schedule.step()
        self._optimiser.zero_grad()
        return loss.detach().float()


def _epochs(
    tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], settings: FinetuneSettings, seed: int
) -> Iterator[dict[str, torch.Tensor]]:
    order = np.random.default_rng([seed, 0])
    for _ in range(settings.epochs):
        yield from shuffled(tokenizer, rows, settings.batch_size, order)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch draws by this seed, and goes on after it as if nothing had been drawn."""
    here = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=here):
        torch.manual_seed(seed)
        yield
