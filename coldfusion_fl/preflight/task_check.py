"""The check of a task with a base before a run: all rows tokenised, one training step, one score.

Many faults show only when rows, tokenizer and model meet: token ids without an embedding, positions that the model
lacks, outputs that are not numbers, too little memory. A run would find them in its first round, after minutes or hours
of waiting.
"""

import math
import resource
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from coldfusion_fl.arrays.mismatch import find_mismatch
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.catalogue import SPLITS
from coldfusion_fl.data.task import Examples, Task
from coldfusion_fl.errors import ColdFusionError, DataError, ErrorCode, MismatchError, ModelError, first_line
from coldfusion_fl.model.base import Base
from coldfusion_fl.model.encoder import build_model, get_encoder, load_encoder, merge, split
from coldfusion_fl.training.batches import tokenize
from coldfusion_fl.training.finetune import finetune
from coldfusion_fl.training.predict import predict

_CHUNK = 1000  # rows that are tokenised at once
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
        settings: the finetuning of the run.

    Attributes:
        encoder_bytes: the size of the base's encoder.

    Raises:
        ModelError: the weights of the base cannot be loaded.
    """

    def __init__(self, base: Base, settings: FinetuneSettings) -> None:
        self._base = base
        self._settings = settings
        self._encoder = load_encoder(base)
        self._batch_tokens = 0
        self.encoder_bytes = sum(array.nbytes for array in self._encoder.values())

    def check(self, task: Task) -> TaskCheck:
        """Tokenise all rows of a task, and make a training step and a score with its longest texts.

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
        tokens = {
            name: _count_tokens(self._base, examples, self._settings.max_length, name, _number_of_embeddings(model))
            for name, examples in splits.items()
        }
        longest = max(int(counted.lengths.max()) for counted in tokens.values())
        batch_tokens = longest * min(self._settings.batch_size, len(task.train))
        rows = self._settings.batch_size if batch_tokens > self._batch_tokens else _FEW_ROWS
        self._batch_tokens = max(self._batch_tokens, batch_tokens)
        chosen = {
            name: splits[name].take(tokens[name].longest(rows if name == "train" else _FEW_ROWS)) for name in SPLITS
        }
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
        try:
            task = replace(task, validation=chosen["validation"])
            result = finetune(model, tokenizer, task, train, schedule, seed=0)
            outputs = predict(model, tokenizer, tokenize(tokenizer, chosen["test"], schedule.max_length))
        except ColdFusionError:
            raise
        # What fails here depends on the architecture and the device.
        except Exception as failure:
            raise _explain(failure, self._base, longest, len(train)) from None
        if not math.isfinite(result.loss):
            return f"the loss of the first training step is {result.loss}"
        if not np.isfinite(outputs).all():
            return "the outputs of the model are not finite numbers"
        return find_mismatch(self._encoder, split(model, self._encoder.keys()))


def peak_memory() -> int:
    """The highest memory of this process so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@dataclass(frozen=True)
class _Tokens:
    """The tokens of a split.

    Attributes:
        lengths: the number of tokens of each row, shape (n,), int64.
        unknown: the number of unknown tokens.
    """

    lengths: np.ndarray
    unknown: int

    def longest(self, count: int) -> np.ndarray:
        """The indices of the longest rows, shape (k,)."""
        return np.argsort(-self.lengths, kind="stable")[:count]


def _find_unknown(splits: Iterable[_Tokens]) -> tuple[str, ...]:
    """A note if the tokenizer does not know many of the tokens, such as those of another language."""
    counted = list(splits)
    share = sum(tokens.unknown for tokens in counted) / sum(int(tokens.lengths.sum()) for tokens in counted)
    return (f"the base's tokenizer does not know {share:.0%} of the tokens",) if share > _MANY_UNKNOWN else ()


def _count_tokens(base: Base, examples: Examples, max_length: int, split_name: str, embeddings: int | None) -> _Tokens:
    """Tokenise a split, a chunk of rows at a time so that memory does not grow with the split.

    Args:
        base: the base.
        examples: the rows.
        max_length: the length in tokens that texts are cut at.
        split_name: for messages.
        embeddings: the number of the model's token embeddings; None: unknown.
    """
    lengths: list[int] = []
    unknown = 0
    for start in range(0, len(examples), _CHUNK):
        numbers = np.arange(start, min(start + _CHUNK, len(examples)))
        for number, ids in zip(numbers, _token_ids(base, examples, numbers, max_length, split_name), strict=True):
            if embeddings is not None and max(ids) >= embeddings:
                raise ModelError(
                    f"row {number + 1} of the {split_name} split has the token id {max(ids)}, but {base.reference} "
                    f"has {embeddings} token embeddings. Use the tokenizer that belongs to the model.",
                    code=ErrorCode.MODEL_UNSUPPORTED,
                )
            lengths.append(len(ids))
            unknown += ids.count(base.tokenizer.unk_token_id)
    return _Tokens(np.array(lengths), unknown)


def _token_ids(
    base: Base, examples: Examples, numbers: np.ndarray, max_length: int, split_name: str
) -> Iterator[list[int]]:
    """The token ids of some rows. If the tokenizer fails, the error names the first row that it cannot read."""
    try:
        rows = tokenize(base.tokenizer, examples.take(numbers), max_length)
    except Exception as failure:  # each tokenizer raises another type
        for number in numbers if len(numbers) > 1 else ():
            _ = list(_token_ids(base, examples, np.array([number]), max_length, split_name))
        raise DataError(
            f"the tokenizer of {base.reference} cannot read row {numbers[0] + 1} of the {split_name} split: "
            f"{type(failure).__name__}: {first_line(failure)}"
        ) from None
    for row in rows:
        yield row["input_ids"]


def _number_of_embeddings(model: nn.Module) -> int | None:
    try:
        embedding = get_encoder(model).get_input_embeddings()  # type: ignore[operator]
    except NotImplementedError:  # CANINE hashes characters and has no token embedding
        return None
    return getattr(embedding, "num_embeddings", None)


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
