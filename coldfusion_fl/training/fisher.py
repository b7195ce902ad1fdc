"""The diagonal of the Fisher information matrix: how strongly each weight influences a model's predictions.

Matena and Raffel 2022, "Merging Models with Fisher-Weighted Averaging", arXiv 2111.09832.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from coldfusion_fl.arrays.encoder import EncoderDict
from coldfusion_fl.data.task import Examples
from coldfusion_fl.model.encoder import get_encoder
from coldfusion_fl.training.batches import batches, device, tokenize


def fisher_diagonal(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Examples,
    max_length: int,
    names: Iterable[str],
    seed: int,
) -> EncoderDict:
    """F = (1/N) Σ_x E_{y∼p(y|x)} (∇_θ log p(y|x))², with one sample of y per x for the expectation (eq. 6).

    The output of a regression is treated as the mean of a normal distribution with variance 1; it is in
    the standardised unit of `Task.for_training`.

    Args:
        model: an encoder with its head.
        tokenizer: the base's tokenizer.
        examples: N rows; their labels are not used.
        max_length: the number of tokens to which texts are truncated.
        names: the names of the encoder's weights that are sent.
        seed: the seed of the samples of y.

    Returns:
        Arrays by name in the shapes of the weights, float32, all at least 0.
    """
    target = device()
    model = model.to(target).eval()
    parameters = dict(get_encoder(model).named_parameters())
    squares = {name: torch.zeros_like(value) for name, value in parameters.items()}
    generator = torch.Generator().manual_seed(seed)
    rows = tokenize(tokenizer, examples, max_length)
    # One row per batch: the square is of each row's own gradient, not of a batch's mean gradient.
    for _, batch in batches(tokenizer, rows, 1):
        outputs = model(**{name: value.to(target) for name, value in batch.items()})
        logits = outputs.logits.float()
        if logits.shape[-1] == 1:
            loss = (logits.sum() - logits.detach().sum() - torch.randn((), generator=generator).to(target)) ** 2 / 2
        else:
            sampled = torch.multinomial(logits.detach().softmax(-1).cpu(), 1, generator=generator)
            loss = nn.functional.cross_entropy(logits, sampled.reshape(-1).to(target))
        model.zero_grad(set_to_none=True)
        loss.backward()
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                squares[name] += parameter.grad.square()
    model.zero_grad(set_to_none=True)
    diagonal = {name: (square / len(rows)).cpu().numpy() for name, square in squares.items()}
    # A shared buffer, such as a running mean, has no gradient. A constant gives it the same weight in every
    # contribution.
    state = get_encoder(model).state_dict()
    return {name: diagonal.get(name, np.ones(tuple(state[name].shape), np.float32)) for name in names}
