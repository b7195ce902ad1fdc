"""The outputs of a model for tokenised texts."""

from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from coldfusion_fl.training.batches import autocast, batches, device

_BATCH_SIZE = 64


def predict(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    rows: list[dict[str, Any]],
    *,
    full_precision: bool = False,
) -> np.ndarray:
    """Compute a model's outputs for tokenised rows, in evaluation mode.

    Args:
        model: a model whose output has `logits` of shape (batch, size).
        tokenizer: the base's tokenizer, for padding.
        rows: n rows of `batches.tokenize`.
        full_precision: float32 where bfloat16 would be faster: in bfloat16, the year 1999 is 2000.

    Returns:
        Shape (n, size), float32, in the order of the rows.
    """
    target = device()
    model = model.to(target).eval()
    order: list[int] = []
    outputs: list[torch.Tensor] = []
    with torch.inference_mode(), nullcontext() if full_precision else autocast():
        for indices, batch in batches(tokenizer, rows, _BATCH_SIZE):
            order += indices
            outputs.append(model(**{name: value.to(target) for name, value in batch.items()})["logits"].float())
    result: np.ndarray = torch.cat(outputs).cpu().numpy()
    # The batches are sorted by length; this restores the order of the rows.
    return result[np.argsort(order)]
