"""The check of a task with a base before a run: rows tokenised, one training step, one score.

Many faults show only when rows, tokenizer and model meet: token ids without an embedding, positions that the model
lacks, outputs that are not numbers, too little memory. A run would find them in its first round, after minutes or hours
of waiting.
"""

import math
import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import psutil
import torch
from torch import nn

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.arrays.mismatch import find_mismatch
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.catalogue import SPLITS
from coldfusion_fl.data.task import Examples, Task
from coldfusion_fl.errors import ColdFusionError, ErrorCode, MismatchError, ModelError, first_line
from coldfusion_fl.model.base import Base
from coldfusion_fl.model.encoder import build_model, merge, split
from coldfusion_fl.preflight.token_counts import TokenCounts, count_tokens
from coldfusion_fl.training.batches import tokenize
from coldfusion_fl.training.finetune import finetune
from coldfusion_fl.training.predict import predict

# The rows that are scored, and that are trained on if a larger batch has shown the need for memory already.
_FEW_ROWS = 2
_MANY_UNKNOWN = 0.2


@dataclass(frozen=True)
class TaskCheck:
    """What the check of a task found.

    Attributes:
        longest: the number of tokens of the longest text, after truncation.
        rows: the number of rows of the training step.
        seconds: the time of the training step and the score.
        notes: sentences about what may be wrong with the texts.
    """

    longest: int
    rows: int
    seconds: float
    notes: tuple[str, ...]


class TaskChecker:
    """Checks tasks with a base.

    The largest batch decides what memory the process needs, so that a task whose batch is not larger than an earlier
    one is checked with two rows.

    Args:
        base: the base.
        encoder: its arrays by name, from `load_encoder`.
        settings: the finetuning of the run.
        trains: whether the encoder is trained. A frozen score needs the outputs of the model alone.
    """

    def __init__(self, base: Base, encoder: Encoder, settings: FinetuneSettings, *, trains: bool = True) -> None:
        self._base = base
        self._encoder = encoder
        self._settings = settings
        self._trains = trains
        self._batch_tokens = 0

    def check(self, task: Task) -> TaskCheck:
        """Tokenise the rows of a task, and make a training step and a score with its longest texts.

        Raises:
            DataError: the tokenizer cannot read a row.
            ModelError: the base cannot be trained on these rows, or needs too much memory.
            MismatchError: the loss, an output or a trained weight is not a finite number.
        """
        try:
            return self._check(task)
        except ColdFusionError as error:
            raise type(error)(f"task '{task.name}': {error}", code=error.code) from None

    def _check(self, task: Task) -> TaskCheck:
        model = build_model(self._base, task.num_labels, self._base.choose_head(self._settings.head), seed=0)
        merge(model, self._encoder)
        splits = {name: getattr(task, name) for name in SPLITS}
        size, max_length = self._settings.batch_size, self._settings.max_length
        wanted = {name: size if name == "train" else _FEW_ROWS for name in SPLITS}
        tokens = {name: count_tokens(self._base, splits[name], max_length, name, wanted[name]) for name in SPLITS}
        longest = max(int(counted.lengths.max()) for counted in tokens.values())
        batch_tokens = longest * min(self._settings.batch_size, len(task.train))
        rows = self._settings.batch_size if batch_tokens > self._batch_tokens else _FEW_ROWS
        self._batch_tokens = max(self._batch_tokens, batch_tokens)
        chosen = {name: splits[name].take(tokens[name].longest(min(rows, wanted[name]))) for name in SPLITS}
        began = time.monotonic()
        if reason := self._train_and_score(model, task, chosen, longest):
            raise MismatchError(
                f"{self._base.reference} cannot be trained: {reason}. Check its weights and the learning rate.",
                code=ErrorCode.TRAINING_DIVERGED,
            )
        return TaskCheck(longest, len(chosen["train"]), time.monotonic() - began, _find_unknown(tokens.values()))

    def _train_and_score(self, model: nn.Module, task: Task, chosen: dict[str, Examples], longest: int) -> str | None:
        """Make the step and the score; returns a clause if a number is not finite."""
        tokenizer, train = self._base.tokenizer, chosen["train"]
        schedule = self._settings.model_copy(update={"epochs": 1, "batch_size": len(train)})
        loss = 0.0
        try:
            if self._trains:
                task = replace(task, validation=chosen["validation"])
                loss = finetune(model, tokenizer, task, train, schedule, seed=0).loss
            outputs = predict(model, tokenizer, tokenize(tokenizer, chosen["test"], schedule.max_length))
        except ColdFusionError:
            raise
        # What fails here depends on the architecture and the device.
        except Exception as failure:
            raise _explain(failure, self._base, longest, len(train)) from None
        if not math.isfinite(loss):
            return f"the loss of the first training step is {loss}"
        if not np.isfinite(outputs).all():
            return "the outputs of the model are not finite numbers"
        return find_mismatch(self._encoder, split(model, self._encoder.keys()))


def peak_memory() -> int:
    """The highest memory of this process so far, in bytes, without what it shares with other processes now."""
    now = psutil.Process().memory_full_info()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - (now.rss - now.uss)


def _find_unknown(splits: Iterable[TokenCounts]) -> tuple[str, ...]:
    """A note if the tokenizer does not know many of the tokens, such as those of another language."""
    counted = list(splits)
    share = sum(tokens.unknown for tokens in counted) / sum(int(tokens.lengths.sum()) for tokens in counted)
    return (f"the base's tokenizer does not know {share:.0%} of the tokens",) if share > _MANY_UNKNOWN else ()


def _explain(failure: Exception, base: Base, longest: int, rows: int) -> ModelError:
    """The error for a failed training step."""
    step = f"a training step with the base {base.reference} and {rows} texts of up to {longest} tokens failed"
    if isinstance(failure, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(failure):
        return ModelError(
            f"{step}, because memory ran out. Lower 'finetune.batch-size' or 'finetune.max-length'.",
            code=ErrorCode.MEMORY_SHORT,
        )
    return ModelError(
        f"{step}: {type(failure).__name__}: {first_line(failure)}. Its config.json, weights and tokenizer may not "
        "belong together, or it has fewer positions than the texts have tokens ('finetune.max-length').",
        code=ErrorCode.MODEL_UNSUPPORTED,
    )
