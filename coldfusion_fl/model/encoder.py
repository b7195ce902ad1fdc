"""A Hugging Face model as encoder and head, and the encoder as arrays by name.

The encoder is what stands under a model's `base_model_prefix`; it is shared. The head is the rest; it stays with its
contributor. On the wire an encoder is every floating-point weight of it; integer buffers stay home.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, AutoModelForSequenceClassification
from transformers.initialization import no_init_weights
from transformers.modeling_outputs import SequenceClassifierOutput

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.arrays.mismatch import find_mismatch
from coldfusion_fl.errors import MismatchError, ModelError, first_line
from coldfusion_fl.model.base import Base, write_base


class MeanHeadModel(nn.Module):
    """An encoder with a linear head on the mean of its last hidden states.

    Args:
        encoder: a Hugging Face encoder.
        num_labels: outputs of the head; 1 makes it a regression.
    """

    base_model_prefix = "encoder"

    def __init__(self, encoder: nn.Module, num_labels: int) -> None:
        super().__init__()
        config: Any = encoder.config
        self.encoder = encoder
        self.config = config
        self.dropout = nn.Dropout(getattr(config, "hidden_dropout_prob", 0.1))
        self.head = nn.Linear(config.hidden_size, num_labels)
        nn.init.normal_(self.head.weight, std=getattr(config, "initializer_range", 0.02))
        nn.init.zeros_(self.head.bias)

    def forward(self, labels: torch.Tensor | None = None, **inputs: torch.Tensor) -> SequenceClassifierOutput:
        """Classify a batch.

        Args:
            labels: shape (batch,), class indices (int64) or numbers (float32); None: no loss.
            **inputs: what the tokenizer made, each of shape (batch, length).

        Returns:
            `logits` of shape (batch, num_labels), and the mean `loss`: cross-entropy, or squared error.
        """
        hidden = self.encoder(**inputs).last_hidden_state
        logits = self.head(self.dropout(mean_pool(hidden, inputs["attention_mask"])))
        loss = None
        if labels is not None:
            regression = self.head.out_features == 1
            loss = (
                nn.functional.mse_loss(logits.squeeze(-1).float(), labels.float())
                if regression
                else nn.functional.cross_entropy(logits.float(), labels)
            )
        return SequenceClassifierOutput(loss=loss, logits=logits)


def mean_pool(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of the hidden states over a text's tokens, without padding.

    Args:
        hidden: shape (batch, length, size).
        mask: shape (batch, length), 1 at a token, 0 at padding.

    Returns:
        Shape (batch, size).
    """
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def new_model(base: Base, num_labels: int, head: str, seed: int) -> nn.Module:
    """The base's architecture with a fresh head, its weights drawn by the seed.

    Those of the encoder are not drawn, and mean nothing until `merge`: that would take longer than all else here.

    Args:
        base: the base.
        num_labels: outputs of the head; 1 makes it a regression.
        head: `class-token` (through the model's own pooler or classification head) or `mean`.
        seed: of the head's weights.

    Raises:
        ModelError: transformers has no sequence classification for this architecture, or its class has no encoder.
    """
    if type(base.config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ModelError(
            f"{base.reference}: transformers has no sequence classification for '{base.config.model_type}' models, so "
            "it cannot be split into an encoder and a head. Take an encoder such as BERT, RoBERTa or ModernBERT."
        )
    config = type(base.config).from_dict(base.config.to_dict() | {"num_labels": num_labels})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            with no_init_weights():
                model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32)
        # Each architecture has its own way to fail on values that do not go together.
        except Exception as broken:
            raise ModelError(f"{base.reference}: its config.json cannot be used: {first_line(broken)}") from None
        _check_split(model, base)
        _draw_head(model)
        return MeanHeadModel(encoder_of(model), num_labels) if head == "mean" else model


def _draw_head(model: Any) -> None:
    """Draw what no encoder brings, as the architecture does: the head, and a pooler, which a base may lack."""
    encoder = encoder_of(model)
    pooler = getattr(encoder, "pooler", None)
    brought = set(encoder.modules()) - set(pooler.modules() if pooler else ())
    for module in reversed(list(model.modules())):  # an architecture's own rule, for a parent, comes after the general
        if module not in brought:
            model._init_weights(module)


def _check_split(model: nn.Module, base: Base) -> None:
    prefix = getattr(model, "base_model_prefix", "")
    encoder = getattr(model, prefix, None) if prefix else None
    if not isinstance(encoder, nn.Module) or encoder is model:
        raise ModelError(
            f"{base.reference}: {type(model).__name__} does not keep its encoder apart from its head (it has no "
            f"'{prefix or 'base_model_prefix'}'). Take an encoder such as BERT, RoBERTa or ModernBERT."
        )


def encoder_of(model: nn.Module) -> nn.Module:
    """The encoder inside a model with a head."""
    encoder: nn.Module = getattr(model, str(model.base_model_prefix))
    return encoder


def head_of(model: nn.Module, shared: Iterable[str]) -> EncoderDict:
    """The weights that stay home, as arrays: all floating-point ones but the shared ones.

    Args:
        model: a model with a head.
        shared: names of the encoder's weights that are shared. A pooler that the base lacks is not, and so belongs to
            the head.
    """
    away = {f"{model.base_model_prefix}.{name}" for name in shared}
    state = model.state_dict()
    return {
        name: value.detach().cpu().numpy().copy()
        for name, value in state.items()
        if value.is_floating_point() and name not in away
    }


def load_head(model: nn.Module, head: Encoder) -> None:
    """Put a head back that `head_of` took; nothing where it is empty."""
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in head.items()}, strict=False)


def load_encoder(base: Base) -> EncoderDict:
    """The base's encoder as arrays, float32, with the names and shapes that every contribution must have.

    A pooler that the base's weights lack (the model has none in pretraining) is not part of it.

    Raises:
        ModelError: the weights cannot be read, or lack a part of the encoder.
    """
    with torch.device("meta"):  # no weights are drawn: this only says what is wrong with the architecture
        new_model(base, num_labels=2, head="class-token", seed=0)
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            base.folder, dtype=torch.float32, output_loading_info=True
        )
    except Exception as broken:  # safetensors, transformers and torch have an error each
        raise ModelError(f"{base.reference}: its weights cannot be loaded: {first_line(broken)}") from None
    prefix = f"{model.base_model_prefix}."
    missing = {name.removeprefix(prefix) for name in report["missing_keys"] if name.startswith(prefix)}
    lost = sorted(name for name in missing if not name.startswith("pooler."))
    if lost:
        raise ModelError(
            f"{base.reference}: the weights lack {len(lost)} tensors of the encoder, first '{lost[0]}'. The "
            "folder does not hold a whole model."
        )
    encoder = split(model)
    return {name: array for name, array in encoder.items() if name not in missing}


def split(model: nn.Module, names: Iterable[str] | None = None) -> EncoderDict:
    """The encoder of a model as arrays: copies, in sorted order of names.

    Args:
        model: a model with a head.
        names: only these weights; None: all floating-point ones.

    Returns:
        Arrays by name, without the model's prefix.
    """
    views = _views(model)
    return {name: views[name].copy() for name in sorted(views if names is None else names)}


def _views(model: nn.Module) -> EncoderDict:
    """The floating-point weights of a model's encoder, not copied where they lie in the processor's memory."""
    state = encoder_of(model).state_dict()
    return {name: value.detach().cpu().numpy() for name, value in state.items() if value.is_floating_point()}


def merge(model: nn.Module, encoder: Encoder) -> None:
    """Put an encoder's arrays into a model, in place; its head stays.

    Raises:
        MismatchError: a name, a shape or a type does not fit this model, or a value is not finite.
    """
    # A pooler that the base lacks stays what it is here: a part of the head, drawn fresh.
    expected = {n: array for n, array in _views(model).items() if n in encoder or not n.startswith("pooler.")}
    if reason := find_mismatch(expected, encoder):
        raise MismatchError(f"the encoder does not fit this {type(model).__name__}: {reason}.")
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in encoder.items()}
    encoder_of(model).load_state_dict(tensors, strict=False)


def save_model(base: Base, encoder: Encoder, folder: Any) -> None:
    """Write an encoder as a model folder like the base's, for `AutoModel.from_pretrained`.

    Raises:
        MismatchError: the encoder is not one of this base.
    """
    model = new_model(base, num_labels=2, head="class-token", seed=0)
    merge(model, encoder)
    module = encoder_of(model)
    buffers = {name: value for name, value in module.state_dict().items() if not value.is_floating_point()}
    weights = {name: module.state_dict()[name] for name in encoder}
    write_base(base, module, weights | buffers, folder)
