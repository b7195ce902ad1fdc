"""What a model says of texts."""

from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from coldfusion_fl.training.batches import autocast, batches, device

_BATCH = 64


def predict(model: nn.Module, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]]) -> np.ndarray:
    """A model's outputs for tokenised rows.

    Args:
        model: its output has `logits` of shape (batch, size).
        tokenizer: the base's, for padding.
        rows: n rows, as `batches.tokenize` makes them.

    Returns:
        Shape (n, size), float32, in the order of the rows.
    """
    place = device()
    model = model.to(place).eval()
    chosen: list[int] = []
    outputs: list[torch.Tensor] = []
    with torch.inference_mode(), autocast():
        for indices, batch in batches(tokenizer, rows, _BATCH):
            chosen += indices
            outputs.append(model(**{name: value.to(place) for name, value in batch.items()})["logits"].float())
    result: np.ndarray = torch.cat(outputs).cpu().numpy()
    return result[np.argsort(chosen)]
