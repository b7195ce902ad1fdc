"""A contributor's local finetuning, on the Hugging Face Trainer."""

import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import (
    DataCollatorWithPadding,
    EvalPrediction,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_callback import PrinterCallback

from coldfusion_fl.batches import has_bf16, tokenize
from coldfusion_fl.settings import FinetuneSettings
from coldfusion_fl.tasks import Examples, Task

# The paper stops when the development score gains less than this ...
_GAIN = 0.1  # points
# ... over so many examples. Smaller data are given `patience` epochs instead, where those are fewer.
_PAPER_PATIENCE = 256_000
_TEST_BATCH = 64

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

    AdamW with linear decay. With `early_stop`, the development split is scored once an epoch, and the training ends
    when the best score gained less than 0.1 points over the patience: `settings.patience` epochs, or the paper's
    256K examples where those are fewer. The same seed on the same machine gives the same weights.

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
    per_epoch = math.ceil(len(rows) / settings.batch_size)
    stop = EarlyStop(min(_PAPER_PATIENCE, settings.patience * len(rows)), settings.batch_size)
    watch = _Watch(progress)
    with tempfile.TemporaryDirectory() as unused:
        arguments = TrainingArguments(
            output_dir=unused,
            seed=seed,
            data_seed=seed,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            lr_scheduler_type="linear",
            num_train_epochs=settings.epochs,
            per_device_train_batch_size=settings.batch_size,
            per_device_eval_batch_size=_TEST_BATCH,
            train_sampling_strategy="group_by_length",
            bf16=has_bf16(),
            use_cpu=not torch.cuda.is_available(),
            eval_strategy="steps" if early_stop else "no",
            eval_steps=min(per_epoch, math.ceil(_PAPER_PATIENCE / 4 / settings.batch_size)),
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            label_names=["labels"],
        )
        set_seed(seed)
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=rows,
            eval_dataset=tokenize(tokenizer, dev, settings.max_length) if early_stop else None,
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_metrics=lambda predicted: {"score": _score(task, predicted)},
            callbacks=[stop, watch],
        )
        trainer.remove_callback(PrinterCallback)  # it prints every step's loss
        trainer.train()
    epochs, rest = divmod(trainer.state.global_step, per_epoch)
    tail = watch.losses[-max(1, len(watch.losses) // 10) :]
    return Finetuned(
        loss=float(np.mean(tail)),
        dev_score=stop.scores[-1] if stop.scores else math.nan,
        examples=epochs * len(rows) + rest * settings.batch_size,
        steps=trainer.state.global_step,
        seconds=time.monotonic() - started,
    )


def _score(task: Task, predicted: EvalPrediction) -> float:
    outputs, truth = np.asarray(predicted.predictions), np.asarray(predicted.label_ids)
    return task.score_outputs(outputs, truth)


class EarlyStop(TrainerCallback):
    """The paper's rule: stop when the development score gains less than 0.1 points over so many examples.

    Args:
        patience: examples.
        batch_size: examples a step.
    """

    def __init__(self, patience: float, batch_size: int) -> None:
        self.patience = patience
        self.batch_size = batch_size
        self.scores: list[float] = []
        self._best = -math.inf
        self._best_at = 0

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Note the score, and stop where patience is over."""
        value = (metrics or {})["eval_score"]
        self.scores.append(value)
        if value - self._best >= _GAIN:
            self._best, self._best_at = value, state.global_step
        elif (state.global_step - self._best_at) * self.batch_size >= self.patience:
            control.should_training_stop = True


class _Watch(TrainerCallback):
    """Keeps the losses and passes them on, not more often than a display can show."""

    def __init__(self, progress: Progress | None) -> None:
        self.losses: list[float] = []
        self._progress = progress
        self._told = 0.0

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep a step's loss."""
        if "loss" not in (logs or {}):
            return
        self.losses.append((logs or {})["loss"])
        now = time.monotonic()
        if self._progress and (now - self._told > 0.5 or state.global_step == state.max_steps):
            self._told = now
            self._progress(state.global_step, state.max_steps, self.losses[-1])
