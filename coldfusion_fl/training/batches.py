"""Texts as batches of tokens, and the arithmetic of the machine they run on."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from coldfusion_fl.data.task import Examples


def tokenize(tokenizer: PreTrainedTokenizerBase, examples: Examples, max_length: int) -> list[dict[str, Any]]:
    """Rows to learn from: token ids cut at `max_length` (or at what the model takes), and the label.

    Returns:
        One dict a row, with lists of ints of the row's own length, and `labels`.
    """
    tokens = tokenizer(
        examples.texts,
        examples.pairs,
        truncation=True,
        max_length=min(max_length, tokenizer.model_max_length),
    )
    rows = [{name: tokens[name][i] for name in tokens} for i in range(len(examples))]
    for row, label in zip(rows, examples.labels.tolist(), strict=True):
        row["labels"] = label
    return rows


def batches(
    tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], size: int
) -> Iterator[tuple[list[int], dict[str, torch.Tensor]]]:
    """Padded batches of rows of like length, longest first, so that little is padding.

    Yields:
        The indices of the rows in the batch, and its tensors of shape (batch, length), without labels.
    """
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]["input_ids"]))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        yield chosen, _pad(tokenizer, [{k: v for k, v in rows[i].items() if k != "labels"} for i in chosen])


def shuffled(
    tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], size: int, order: np.random.Generator
) -> Iterator[dict[str, torch.Tensor]]:
    """One epoch: padded batches of rows of like length, the batches in a drawn order.

    Args:
        tokenizer: the base's, for padding.
        rows: as `tokenize` makes them.
        size: rows a batch; one batch is smaller where they do not come out even.
        order: draws which rows of a length go together, and the order of the batches.

    Yields:
        A batch's tensors of shape (batch, length), and `labels` of shape (batch,).
    """
    drawn = order.permutation(len(rows)).tolist()
    drawn.sort(key=lambda i: len(rows[i]["input_ids"]))
    starts = range(0, len(drawn), size)
    for start in order.permutation(starts):
        yield _pad(tokenizer, [rows[i] for i in drawn[start : start + size]])


def _pad(tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """A batch as transformers' DataCollatorWithPadding makes it, in a fraction of the time: a GPU would wait for it."""
    fill = {"input_ids": tokenizer.pad_token_id, "attention_mask": 0, "token_type_ids": tokenizer.pad_token_type_id}
    longest = max(len(row["input_ids"]) for row in rows)
    is_left = tokenizer.padding_side == "left"
    batch = {}
    for name in rows[0]:
        if name not in fill:  # labels
            batch[name] = torch.tensor([row[name] for row in rows])
            continue
        missing = [[fill[name]] * (longest - len(row[name])) for row in rows]
        padded = [m + row[name] if is_left else row[name] + m for row, m in zip(rows, missing, strict=True)]
        batch[name] = torch.from_numpy(np.array(padded))
    return batch


def has_bf16() -> bool:
    """Whether bfloat16 arithmetic is native here: on the GPU that is used, else on this processor."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    abilities = torch.cpu.get_capabilities()
    return bool(abilities.get("avx512_bf16") or abilities.get("amx_bf16") or abilities.get("bf16"))


def device() -> torch.device:
    """The GPU where there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """What the device is called, for reports: the GPU's name, or `CPU`."""
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"


def autocast() -> AbstractContextManager[Any]:
    """Bfloat16 autocast where it is native, else nothing."""
    return torch.autocast(device().type, dtype=torch.bfloat16) if has_bf16() else nullcontext()
