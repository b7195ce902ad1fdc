"""Dropout and attention for training on a processor.

PyTorch's drawing of dropout, for attention one number a pair of tokens, takes up to a third of a step there. A mask of
sixteen bits of numpy's SFC64 an element takes a third of that, and says a rate to 1/65536. As PyTorch's attention draws
its own, this brings one along, which is the same but for who draws. With gradient checkpointing, which draws twice, it
must not be used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from coldfusion_fl.model.encoder import encoder_of

_NAME = "coldfusion"
_LEVELS = 2**16


class Masks:
    """Draws dropout masks.

    Args:
        seed: of the draws.
    """

    def __init__(self, seed: int) -> None:
        self._draw = np.random.Generator(np.random.SFC64(seed))

    @torch.compiler.disable
    def __call__(self, like: torch.Tensor, rate: float) -> torch.Tensor:
        """A mask in the shape and dtype of a tensor: 0 at the rate, from 0 to below 1, and else 1 / (1 - rate)."""
        dropped = min(round(rate * _LEVELS), _LEVELS - 1)
        drawn = np.frombuffer(self._draw.bytes(2 * like.numel()), np.uint16)
        kept = torch.from_numpy(drawn >= dropped).view(like.shape)
        return kept.to(like.dtype) * (_LEVELS / (_LEVELS - dropped))


# Of the training that goes on: transformers' registry of attentions is one for all threads.
_MASKS: ContextVar[Masks] = ContextVar("masks")


@contextmanager
def fast_dropout(model: nn.Module, seed: int) -> Iterator[None]:
    """Within this, a model on the processor trains with dropout that is drawn here; on a GPU nothing changes.

    Args:
        model: encoder and head, as `encoder.new_model` makes it.
        seed: of the dropout.
    """
    if next(model.parameters()).device.type != "cpu":
        yield
        return
    masks, encoder = Masks(seed), encoder_of(model)
    usual = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Dropout and 0 < child.p < 1
    ]
    for parent, name, child in usual:
        setattr(parent, name, _Dropout(child.p, masks).train(child.training))
    attention = _swap_attention(encoder)
    token = _MASKS.set(masks)
    try:
        yield
    finally:
        _MASKS.reset(token)
        for parent, name, child in usual:
            setattr(parent, name, child.train(parent.training))
        if attention:
            encoder.set_attn_implementation(attention)  # type: ignore[operator]


def _swap_attention(encoder: Any) -> str | None:
    """Give an encoder our attention in place of PyTorch's; what it had, or None where it has another one."""
    if encoder.config._attn_implementation != "sdpa" or not encoder._can_set_attn_implementation():
        return None
    encoder.set_attn_implementation(_NAME)
    return "sdpa"


class _Dropout(nn.Module):
    def __init__(self, p: float, masks: Masks) -> None:
        super().__init__()
        self.p = p  # attention reads it
        self._masks = masks

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden * self._masks(hidden, self.p) if self.training else hidden


def _attend(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """softmax(query keyᵀ · scaling) value, with dropout on the softmax; the shapes are those of transformers.

    Where nothing is to be drawn, or the attention is more than that, PyTorch's.
    """
    is_causal = more.get("is_causal")
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    is_masked = attention_mask is not None or not is_causal
    is_plain = is_masked and query.shape[1] == key.shape[1] and more.get("position_bias") is None
    if not module.training or not 0 < dropout < 1 or not is_plain:
        given = {"dropout": dropout, "scaling": scaling, **more}
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **given)
        return output, None
    weights = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        weights = weights.masked_fill(~attention_mask, torch.finfo(weights.dtype).min)
    elif attention_mask is not None:
        weights = weights + attention_mask
    weights = weights.softmax(-1, dtype=torch.float32).to(value.dtype)
    weights = weights * _MASKS.get()(weights, dropout)
    return (weights @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register(_NAME, _attend)
AttentionMaskInterface.register(_NAME, sdpa_mask)
