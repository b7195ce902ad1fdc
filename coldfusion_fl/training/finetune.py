"""A contributor's local finetuning.

This training loop replaces the Hugging Face Trainer. On a CPU, the Trainer spends a sixth of a step on its own code,
another sixth on embedding rows that no text uses (see `compact_vocabulary`), and up to a third on drawing dropout
(see `fast_dropout`).
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import AdamW
from transformers import PreTrainedTokenizerBase, get_linear_schedule_with_warmup

from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.task import Examples, Task
from coldfusion_fl.model.encoder import get_encoder
from coldfusion_fl.model.frozen_weights import without_gradients
from coldfusion_fl.training.batches import autocast, device, shuffled_batches, tokenize
from coldfusion_fl.training.checkpoint import TrainingCheckpoint, TrainingParts, TrainingStatistics
from coldfusion_fl.training.compact_vocabulary import compact_vocabulary
from coldfusion_fl.training.fast_dropout import fast_dropout
from coldfusion_fl.training.predict import predict

# The paper stops when the development score gains less than this many points ...
_MIN_GAIN = 0.1
# ... over this many examples. The patience of the settings, in epochs, applies if it is shorter.
_PAPER_PATIENCE = 256_000
_MAX_GRADIENT_NORM = 1.0
# Seconds between two progress reports; displays refresh no faster.
_PROGRESS_INTERVAL = 0.5

# Called with (step, planned steps, loss).
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class FinetuneResult:
    """The statistics of a finetuning.

    Attributes:
        loss: the mean training loss over the last tenth of the steps.
        dev_score: the last development score, in points; NaN if there was none.
        examples: the number of examples seen, counted once per epoch.
        steps: the number of optimizer steps.
        seconds: the wall time of the training, including tokenisation.
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
    checkpoint: TrainingCheckpoint | None = None,
) -> FinetuneResult:
    """Finetune a model with a head on examples of a task, in place.

    The optimizer is AdamW (β = 0.9, 0.999) with linear decay; gradients are clipped to a norm of 1. The forward pass
    runs in bfloat16 autocast if the device supports it natively. Batches hold rows of similar length, in random order.
    The same seed on the same machine gives the same weights. The numbers of a regression are standardised: see
    `Task.for_training`.

    With `early_stop`, the development split is scored once per epoch, or every 64K examples if an epoch is longer.
    The training ends when the best score has gained less than 0.1 points over the patience: `settings.patience` epochs,
    or the paper's 256K examples if that is less.

    Args:
        model: encoder and head, as `encoder.build_model` returns them.
        tokenizer: the base's tokenizer.
        task: the task, for its development split, its metric and the scale of its numbers.
        examples: the training rows.
        settings: the schedule.
        seed: the seed of the row order and of the dropout.
        early_stop: whether to score the development split and stop early.
        progress: called at most twice per second, and at the last planned step.
        checkpoint: continue from it if it has a saved training, and save to it; None: an interrupted training is lost.
    """
    started = time.monotonic()
    rows = tokenize(tokenizer, task.for_training(examples), settings.max_length)
    dev = task.validation.draw(settings.dev_examples, [0])
    dev_rows = tokenize(tokenizer, dev, settings.max_length) if early_stop else []
    steps_per_epoch = math.ceil(len(rows) / settings.batch_size)
    planned_steps = steps_per_epoch * settings.epochs
    score_every = min(steps_per_epoch, math.ceil(_PAPER_PATIENCE / 4 / settings.batch_size))
    early_stopping = EarlyStopping(min(_PAPER_PATIENCE, settings.patience * len(rows)))
    last_report = started
    target = device()
    model.to(target)
    # The optimizer must be created inside the contexts: they replace the embedding whose weights it trains.
    vocabulary = compact_vocabulary(get_encoder(model), [*rows, *dev_rows], tokenizer.pad_token_id)
    frozen = without_gradients(get_encoder(model), settings.freeze)
    with torch_seed(seed), fast_dropout(model, seed) as masks, frozen, vocabulary as deferred_decay:
        train_step = TrainingStep(model, settings, planned_steps)
        parts = TrainingParts(model, train_step, deferred_decay, masks, early_stopping)
        done = checkpoint.restore(parts) if checkpoint else TrainingStatistics()
        for batch in islice(_batches_of_all_epochs(tokenizer, rows, settings, seed), len(done.losses), None):
            deferred_decay.step(train_step.learning_rate * settings.weight_decay)
            # The loss stays on the device: reading its value at each step would make the CPU wait for the GPU.
            done.losses.append(train_step({name: value.to(target) for name, value in batch.items()}))
            done.examples_seen, step = done.examples_seen + len(batch["labels"]), len(done.losses)
            if progress and (step == planned_steps or time.monotonic() - last_report > _PROGRESS_INTERVAL):
                last_report = time.monotonic()
                progress(step, planned_steps, done.losses[-1].item())
            if early_stop and step % score_every == 0:
                done.dev_score = task.score_outputs(predict(model, tokenizer, dev_rows), dev.labels)
                if early_stopping.should_stop(done.dev_score, done.examples_seen):
                    break
            if checkpoint and checkpoint.is_due():
                checkpoint.save(parts, done)
    steps = len(done.losses)
    loss = float(torch.stack(done.losses[-max(1, steps // 10) :]).mean())
    return FinetuneResult(loss, done.dev_score, done.examples_seen, steps, time.monotonic() - started)


@dataclass
class EarlyStopping:
    """The paper's rule: stop when the development score has gained less than 0.1 points over the patience.

    Attributes:
        patience: a number of training examples.
        best: the best development score, in points.
        best_at: the number of training examples at which it was reached.
    """

    patience: float
    best: float = -math.inf
    best_at: int = 0

    def should_stop(self, score: float, examples_seen: int) -> bool:
        """Record a development score, in points; returns whether the patience has run out."""
        if score - self.best >= _MIN_GAIN:
            self.best, self.best_at = score, examples_seen
            return False
        return examples_seen - self.best_at >= self.patience


class TrainingStep:
    """One optimizer step per call, with AdamW and a linear schedule.

    Args:
        model: a model whose output has a `loss`.
        settings: the learning rate and weight decay.
        planned_steps: the learning rate decays linearly to 0 over this many steps.
    """

    def __init__(self, model: nn.Module, settings: FinetuneSettings, planned_steps: int) -> None:
        self._model = model
        weights = [weight for weight in model.parameters() if weight.requires_grad]
        groups = [
            {"params": [w for w in weights if w.ndim > 1], "weight_decay": settings.weight_decay},
            # Biases and norms are not decayed, as is usual for transformers.
            {"params": [w for w in weights if w.ndim <= 1], "weight_decay": 0.0},
        ]
        self._optimizer = AdamW(groups, lr=settings.learning_rate, fused=True)
        self._schedule = get_linear_schedule_with_warmup(self._optimizer, 0, planned_steps)

    def state(self) -> tuple[dict[int, dict[str, torch.Tensor]], dict[str, Any]]:
        """The optimizer's tensors by the index of their weight, and the state of the schedule, as JSON has it."""
        return self._optimizer.state_dict()["state"], self._schedule.state_dict()

    def load_state(self, moments: dict[int, dict[str, torch.Tensor]], schedule: dict[str, Any]) -> None:
        """Continue from a state of `state`."""
        self._schedule.load_state_dict(schedule)
        groups = self._optimizer.state_dict()["param_groups"]
        for group, rate in zip(groups, self._schedule.get_last_lr(), strict=True):
            group["lr"] = rate
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step."""
        return float(self._schedule.get_last_lr()[0])

    def __call__(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Train on one batch; returns its mean loss, shape (), float32, still on the device."""
        self._model.train()
        with autocast():
            loss: torch.Tensor = self._model(**batch)["loss"]
        loss.backward()
        nn.utils.clip_grad_norm_(self._model.parameters(), _MAX_GRADIENT_NORM)
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad()
        return loss.detach().float()


def _batches_of_all_epochs(
    tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], settings: FinetuneSettings, seed: int
) -> Iterator[dict[str, torch.Tensor]]:
    generator = np.random.default_rng([seed, 0])
    for _ in range(settings.epochs):
        yield from shuffled_batches(tokenizer, rows, settings.batch_size, generator)


@contextmanager
def torch_seed(seed: int) -> Iterator[None]:
    """A context in which PyTorch's generators start at a seed; their previous state is restored at the end."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
