"""A Hugging Face model as an encoder with a head, and the encoder as arrays by name.

The encoder is the module at a model's `base_model_prefix`, and is shared. The head is the rest of the model, and stays
with its contributor. The arrays of an encoder are its floating-point weights; integer buffers are not sent.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification
from transformers.initialization import no_init_weights
from transformers.modeling_outputs import SequenceClassifierOutput

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.arrays.mismatch import find_mismatch
from coldfusion_fl.errors import MismatchError, ModelError, count, first_line
from coldfusion_fl.model.architecture import build_classifier, get_encoder
from coldfusion_fl.model.base import Base


class MeanHeadModel(nn.Module):
    """An encoder with a linear head on the mean of its last hidden states.

    Args:
        encoder: a Hugging Face encoder.
        num_labels: the number of outputs; 1 means a regression.
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
        """Compute the outputs for a batch, and the loss if there are labels.

        Args:
            labels: shape (batch,), class indices (int64) or numbers (float32); None: no loss.
            **inputs: the tensors of the tokenizer, each of shape (batch, length).

        Returns:
            `logits` of shape (batch, num_labels). `loss` of shape (), the mean over the batch: cross-entropy, or the
            squared error of a regression.
        """
        return classify_mean(self.encoder, self.dropout, self.head, labels, inputs)


def classify_mean(
    encoder: nn.Module,
    dropout: nn.Module,
    head: nn.Linear,
    labels: torch.Tensor | None,
    inputs: Mapping[str, torch.Tensor],
) -> SequenceClassifierOutput:
    """The outputs of a head on the mean of the last hidden states: see `MeanHeadModel.forward`."""
    hidden = encoder(**inputs).last_hidden_state
    logits = head(dropout(mean_pool(hidden, inputs["attention_mask"])))
    loss = None
    if labels is not None:
        is_regression = head.out_features == 1
        loss = (
            nn.functional.mse_loss(logits.squeeze(-1).float(), labels.float())
            if is_regression
            else nn.functional.cross_entropy(logits.float(), labels)
        )
    return SequenceClassifierOutput(loss=loss, logits=logits)


def mean_pool(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean of the hidden states over the tokens of each text, without padding.

    Args:
        hidden: shape (batch, length, size).
        mask: shape (batch, length), 1 for a token and 0 for padding.

    Returns:
        Shape (batch, size).
    """
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def build_model(base: Base, num_labels: int, head: str, seed: int) -> nn.Module:
    """Build the base's architecture with a new head, whose weights are drawn with the seed.

    The encoder's weights are uninitialised until `merge`: drawing them would take longer than everything else here.

    Args:
        base: the base.
        num_labels: the number of outputs of the head; 1 means a regression.
        head: `class-token` (the model's own pooler or classification head) or `mean` (`MeanHeadModel`).
        seed: the seed of the head's weights.

    Raises:
        ModelError: the configuration is not valid, or the architecture does not separate the encoder from the head.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        with no_init_weights():
            model = build_classifier(base.config, base.reference, num_labels)
        _init_head(model)
        return MeanHeadModel(get_encoder(model), num_labels) if head == "mean" else model


def _init_head(model: Any) -> None:
    """Initialise the weights that may not come with an encoder, by the architecture's rules: the head and the pooler.

    A base may lack the pooler, so it is initialised here too; `merge` overwrites it if the base has one.
    """
    encoder = get_encoder(model)
    pooler = getattr(encoder, "pooler", None)
    merged_later = set(encoder.modules()) - set(pooler.modules() if pooler else ())
    # Children before parents, as in transformers: the rule of an architecture for a parent overrides the general one.
    for module in reversed(list(model.modules())):
        if module not in merged_later:
            model._init_weights(module)


def split_head(model: nn.Module, shared: Iterable[str]) -> EncoderDict:
    """The head of a model as arrays: copies of all floating-point weights that are not shared.

    Args:
        model: a model with a head.
        shared: the names of the encoder's weights that are sent. A pooler that the base lacks is not among them, so it
            belongs to the head.
    """
    shared_names = {f"{model.base_model_prefix}.{name}" for name in shared}
    state = model.state_dict()
    return {
        name: value.detach().cpu().numpy().copy()
        for name, value in state.items()
        if value.is_floating_point() and name not in shared_names
    }


def load_head(model: nn.Module, head: Encoder) -> None:
    """Load the arrays of `split_head` into a model, in place; an empty head changes nothing."""
    model.load_state_dict({name: torch.from_numpy(np.array(array)) for name, array in head.items()}, strict=False)


def load_encoder(base: Base) -> EncoderDict:
    """The base's encoder as float32 arrays, with the names and shapes that every contribution must have.

    If the base's weights have no pooler (the model has none in pretraining), it is not part of the encoder.

    Raises:
        ModelError: the weights cannot be read, some are missing or have another shape, or a value is not finite.
    """
    try:
        # Weights of an earlier head may have another shape; those of the encoder are checked below.
        model, report = AutoModelForSequenceClassification.from_pretrained(
            base.folder,
            config=base.config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    except Exception as failure:  # safetensors, transformers and torch raise different types
        raise ModelError(f"{base.reference}: its weights cannot be loaded: {first_line(failure)}") from None
    prefix = f"{model.base_model_prefix}."
    missing = {name.removeprefix(prefix) for name in report["missing_keys"] if name.startswith(prefix)}
    encoder = split(model)
    _check_weights(base, prefix, report, missing, encoder)
    return {name: array for name, array in encoder.items() if name not in missing}


def _check_weights(base: Base, prefix: str, report: dict[str, Any], missing: set[str], encoder: Encoder) -> None:
    """Check what transformers reports of loading the weights of an encoder, and the values."""
    for name, found, expected in sorted(report["mismatched_keys"]):
        if name.startswith(prefix):
            raise ModelError(
                f"{base.reference}: '{name.removeprefix(prefix)}' has the shape {tuple(found)} in the weights, but "
                f"{tuple(expected)} by config.json. The two do not belong to the same model."
            )
    if required := sorted(name for name in missing if not name.startswith("pooler.")):
        raise ModelError(
            f"{base.reference}: {count(len(required), 'tensor')} of the encoder are missing, the first "
            f"is '{required[0]}'. The model folder is not complete."
        )
    # Other weights may be unused, such as those of a head, but not a layer.
    layers = {_without_numbers(name) for name in encoder}
    unused = sorted(name.removeprefix(prefix) for name in report["unexpected_keys"])
    if more := [name for name in unused if _without_numbers(name) in layers]:
        raise ModelError(
            f"{base.reference}: the weights have {count(len(more), 'tensor')} of layers that config.json does not "
            f"have, the first is '{more[0]}'. The two do not belong to the same model."
        )
    if damaged := [name for name, array in encoder.items() if name not in missing and not np.isfinite(array).all()]:
        raise ModelError(
            f"{base.reference}: '{damaged[0]}' holds values that are not finite (NaN or infinity). The weights are "
            "damaged, or were saved in a precision that is too low."
        )


def _without_numbers(name: str) -> str:
    return re.sub(r"\d+", "0", name)


def split(model: nn.Module, names: Iterable[str] | None = None) -> EncoderDict:
    """The encoder of a model as arrays: copies, in sorted order of names.

    Args:
        model: a model with a head.
        names: the weights to take; None: all floating-point ones.

    Returns:
        Arrays by name, in the weights' dtypes. The names have no `base_model_prefix`.
    """
    views = _views(model)
    return {name: views[name].copy() for name in sorted(views if names is None else names)}


def _views(model: nn.Module) -> EncoderDict:
    """The floating-point weights of a model's encoder; on the CPU these are views, not copies."""
    state = get_encoder(model).state_dict()
    return {name: value.detach().cpu().numpy() for name, value in state.items() if value.is_floating_point()}


def merge(model: nn.Module, encoder: Encoder) -> None:
    """Load an encoder's arrays into a model, in place; the head does not change.

    Raises:
        MismatchError: a name, a shape or a dtype does not fit the model, or a value is not finite.
    """
    # If the encoder has no pooler, the model keeps its own, which then is a part of the head.
    expected = {n: array for n, array in _views(model).items() if n in encoder or not n.startswith("pooler.")}
    if reason := find_mismatch(expected, encoder):
        raise MismatchError(f"the encoder does not fit this {type(model).__name__}: {reason}.")
    tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in encoder.items()}
    get_encoder(model).load_state_dict(tensors, strict=False)
