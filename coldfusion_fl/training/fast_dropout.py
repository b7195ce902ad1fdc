"""Faster dropout and attention for training on a CPU.

On a CPU, PyTorch spends up to a third of a training step on drawing dropout, because attention needs one random number
for each pair of tokens. Masks of 16 bits per element from numpy's SFC64 generator take a tenth of that time; they
resolve the dropout rate to 1/65536. PyTorch's fused attention draws its own dropout, so this module has an attention
function of its own, which computes the same with these masks. Do not use it with gradient checkpointing, which runs
the forward pass twice and would draw other masks the second time.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from coldfusion_fl.model.encoder import get_encoder

_ATTENTION_NAME = "coldfusion"
_LEVELS = 2**16
# Elements that are drawn at once: they stay in the cache.
_BLOCK = 2**18
# The integers of as many bytes as a number of a tensor.
_INTEGERS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


class DropoutMasks:
    """A generator of dropout masks.

    Args:
        seed: the seed of the masks.
    """

    def __init__(self, seed: int) -> None:
        self._generator = np.random.SFC64(seed)

    def state(self) -> dict[str, Any]:
        """The state of the generator, as JSON has it."""
        state: Any = self._generator.state
        return {**state, "state": {"state": state["state"]["state"].tolist()}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from a state of `state`."""
        loaded: Any = {**state, "state": {"state": np.array(state["state"]["state"], np.uint64)}}
        self._generator.state = loaded

    @torch.compiler.disable
    def __call__(self, like: torch.Tensor, rate: float) -> torch.Tensor:
        """A mask in the shape and dtype of a tensor.

        Each element is 0 with probability `rate`, from 0 to below 1, and else 1 / (1 - rate).
        """
        threshold = min(round(rate * _LEVELS), _LEVELS - 1)
        # The bits of the kept value, times 0 or 1: with numbers of the dtype it would take one more pass.
        kept_value = torch.tensor(_LEVELS / (_LEVELS - threshold), dtype=like.dtype)
        kept_bits = kept_value.view(_INTEGERS[like.element_size()]).numpy()
        mask = np.empty(like.numel(), kept_bits.dtype)
        for start in range(0, len(mask), _BLOCK):
            block = mask[start : start + _BLOCK]
            # 64 random bits at once: `Generator.bytes` draws 32, and takes six times as long.
            random_bits = self._generator.random_raw(math.ceil(len(block) / 4)).view(np.uint16)[: len(block)]
            np.multiply(random_bits >= threshold, kept_bits, out=block)
        return torch.from_numpy(mask).view(like.dtype).view(like.shape)


# The masks of the current training. The attention function is registered globally with transformers, so it cannot be
# given the masks as an argument; a context variable keeps trainings in other threads apart.
_MASKS: ContextVar[DropoutMasks] = ContextVar("masks")


@contextmanager
def fast_dropout(model: nn.Module, seed: int) -> Iterator[DropoutMasks | None]:
    """A context in which a model on the CPU trains with these dropout masks; on a GPU it changes nothing.

    Args:
        model: encoder and head, as `encoder.build_model` returns them.
        seed: the seed of the masks.

    Yields:
        The generator of the masks; None on a GPU.
    """
    if next(model.parameters()).device.type != "cpu":
        yield None
        return
    # Plain dropout modules are replaced by ours. The attention draws inside a function, which is replaced by name.
    masks, encoder = DropoutMasks(seed), get_encoder(model)
    replaced = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if type(child) is nn.Dropout and 0 < child.p < 1
    ]
    for parent, name, child in replaced:
        setattr(parent, name, _MaskDropout(child.p, masks).train(child.training))
    previous_attention = _replace_attention(encoder)
    token = _MASKS.set(masks)
    try:
        yield masks
    finally:
        _MASKS.reset(token)
        for parent, name, child in replaced:
            setattr(parent, name, child.train(parent.training))
        if previous_attention:
            encoder.set_attn_implementation(previous_attention)  # type: ignore[operator]


def _replace_attention(encoder: Any) -> str | None:
    """Replace PyTorch's attention by ours; returns the name of the previous one, or None if nothing was replaced."""
    if encoder.config._attn_implementation != "sdpa" or not encoder._can_set_attn_implementation():
        return None
    encoder.set_attn_implementation(_ATTENTION_NAME)
    return "sdpa"


class _MaskDropout(nn.Module):
    def __init__(self, p: float, masks: DropoutMasks) -> None:
        super().__init__()
        self.p = p  # BERT's attention reads the rate from here
        self._masks = masks

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return hidden * self._masks(hidden, self.p) if self.training else hidden


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """softmax(query keyᵀ · scaling) value, with dropout on the softmax; the shapes are those of transformers.

    PyTorch's attention is used where there is no dropout, and for what this function does not compute: a causal mask
    that is not given as a tensor, grouped heads and a position bias.
    """
    is_causal = kwargs.get("is_causal")
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    has_full_mask = attention_mask is not None or not is_causal
    is_supported = has_full_mask and query.shape[1] == key.shape[1] and kwargs.get("position_bias") is None
    if not module.training or not 0 < dropout < 1 or not is_supported:
        arguments = {"dropout": dropout, "scaling": scaling, **kwargs}
        output, _ = sdpa_attention_forward(module, query, key, value, attention_mask, **arguments)
        return output, None
    weights = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        weights = weights.masked_fill(~attention_mask, torch.finfo(weights.dtype).min)
    elif attention_mask is not None:
        weights = weights + attention_mask
    weights = weights.softmax(-1, dtype=torch.float32).to(value.dtype)
    weights = weights * _MASKS.get()(weights, dropout)
    return (weights @ value).transpose(1, 2).contiguous(), None


AttentionInterface.register(_ATTENTION_NAME, _attention)
AttentionMaskInterface.register(_ATTENTION_NAME, sdpa_mask)
