"""A diagonal of the Fisher information: how much each weight matters to what a model says."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from coldfusion_fl.arrays.encoder import EncoderDict
from coldfusion_fl.data.task import Examples
from coldfusion_fl.model.encoder import encoder_of
from coldfusion_fl.training.batches import batches, device, tokenize


def fisher_diagonal(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    examples: Examples,
    max_length: int,
    names: Iterable[str],
    seed: int,
) -> EncoderDict:
    """F = (1/N) Σ_x E_{y∼p(y|x)} (∇_θ log p(y|x))², the expectation by one draw of y (Matena and Raffel 2022, eq. 6).

    A model of numbers is taken as a normal distribution of variance 1 around its output.

    Args:
        model: an encoder with its head.
        tokenizer: the base's.
        examples: N rows; their labels are not used.
        max_length: tokens a text is cut at.
        names: of the encoder's weights, as they are sent.
        seed: of the draws.

    Returns:
        Arrays by name in the shapes of the weights, float32, all at least 0.
    """
    place = device()
    model = model.to(place).eval()
    parameters = dict(encoder_of(model).named_parameters())
    squares = {name: torch.zeros_like(value) for name, value in parameters.items()}
    draw = torch.Generator().manual_seed(seed)
    rows = tokenize(tokenizer, examples, max_length)
    for _, batch in batches(tokenizer, rows, 1):
        outputs = model(**{name: value.to(place) for name, value in batch.items()})
        logits = outputs.logits.float()
        if logits.shape[-1] == 1:
            loss = (logits.sum() - logits.detach().sum() - torch.randn((), generator=draw).to(place)) ** 2 / 2
        else:
            said = torch.multinomial(logits.detach().softmax(-1).cpu(), 1, generator=draw).reshape(-1).to(place)
            loss = nn.functional.cross_entropy(logits, said)
        model.zero_grad(set_to_none=True)
        loss.backward()
        for name, parameter in parameters.items():
            if parameter.grad is not None:
                squares[name] += parameter.grad.square()
    model.zero_grad(set_to_none=True)
    found = {name: (square / len(rows)).cpu().numpy() for name, square in squares.items()}
    # What is shared but is no parameter, such as a running mean, is known equally by all.
    state = encoder_of(model).state_dict()
    return {name: found.get(name, np.ones(tuple(state[name].shape), np.float32)) for name in names}
