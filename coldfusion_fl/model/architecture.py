"""The architecture of a base: its configuration without leftovers, and the model that is built from it."""

import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForSequenceClassification,
    __version__,
)
from transformers.initialization import no_init_weights

from coldfusion_fl.errors import ErrorCode, ModelError, first_line

# The key of config.json with what this package needs to know of a classifier that it made.
OWN_KEY = "coldfusion"
# In it: the SHA-256 of the arrays of the base that the classifier was finetuned from.
BASE_HASH = "base-sha256"
# What an earlier finetuning or another use left in config.json. It would change the loss, the head's dropout, the
# form of the outputs or the file of the weights.
_LEFTOVERS = (
    "id2label",
    "label2id",
    "num_labels",
    "problem_type",
    "classifier_dropout",
    "classifier_dropout_prob",
    "cls_dropout",
    "seq_classif_dropout",
    "return_dict",
    "output_hidden_states",
    "output_attentions",
    OWN_KEY,
)
# What could have transformers run code of the folder or of the Hub, or read files outside of the folder.
_UNSAFE = ("auto_map", "transformers_weights", "custom_pipelines", "use_kernels", "kernel_config")
_ATTENTION = ("attn_implementation", "_attn_implementation", "_attn_implementation_internal")
# Others may not be installed here, such as flash attention, or are code of the Hub, such as `ORGANISATION/KERNEL`.
_OWN_ATTENTION = ("eager", "sdpa")
# The model type of this package's classifiers with a head on the mean, see `classifier.mean_pooling`, and the key of
# their encoder's configuration in theirs.
MEAN_POOLING_TYPE, MEAN_POOLING_ENCODER = "mean-pooling-classifier", "encoder"
_ENCODERS = "Use an encoder such as BERT, RoBERTa or ModernBERT."


def read_config(folder: Path, reference: str) -> tuple[Any, tuple[str, ...]]:
    """Read a model's configuration, without what an earlier use left in it.

    Code in the folder is never run.

    Args:
        folder: the model folder, with a config.json.
        reference: the folder as the user wrote it, for messages.

    Returns:
        The configuration, and notes as sentences.

    Raises:
        ModelError: the file is not valid, or describes a model that is not supported.
    """
    values = _read_values(folder, reference)
    if has_mean_pooling(values):
        values = values[MEAN_POOLING_ENCODER]
    _check_values(values, reference)
    try:
        config = AutoConfig.for_model(**_without_leftovers(values))
    # The type of the exception depends on which value of the file is wrong.
    except Exception as failure:
        raise ModelError(f"{reference}: its config.json cannot be used: {first_line(failure)}") from None
    note = (
        "the folder has code of its own ('auto_map'), which is never run. The model and its tokenizer are built by "
        f"transformers' code for '{config.model_type}'."
    )
    return config, (note,) if _has_code(folder) else ()


def read_classifier_config(folder: Path, reference: str) -> Any:
    """Read the configuration of a classifier as it is. Code in the folder is never run.

    Args:
        folder: the model folder, with a config.json.
        reference: the folder as the user wrote it, for messages.

    Raises:
        ModelError: the file is not valid.
    """
    values = _without_unsafe(_read_values(folder, reference))
    if has_mean_pooling(values):
        values[MEAN_POOLING_ENCODER] = _without_unsafe(values[MEAN_POOLING_ENCODER])
    _check_type(values, reference, has_code=_has_code(folder))
    try:
        return AutoConfig.for_model(**values)
    except Exception as failure:  # the type depends on which value of the file is wrong
        raise ModelError(f"{reference}: its config.json cannot be used: {first_line(failure)}") from None


def has_mean_pooling(values: Mapping[str, Any]) -> bool:
    """Whether the values of a config.json are those of a classifier of this package with a head on the mean."""
    return values.get("model_type") == MEAN_POOLING_TYPE and isinstance(values.get(MEAN_POOLING_ENCODER), dict)


def read_base_hash(folder: Path) -> str:
    """The SHA-256 of the arrays of the base that a classifier of this package was made from; empty: it is not known."""
    own = json.loads((folder / "config.json").read_text(encoding="utf-8")).get(OWN_KEY)
    return str(own.get(BASE_HASH, "")) if isinstance(own, dict) else ""


def _read_values(folder: Path, reference: str) -> dict[str, Any]:
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as failure:
        raise ModelError(f"{reference}: its config.json cannot be used: {first_line(failure)}") from None
    if not isinstance(values, dict) or not isinstance(values.get("model_type"), str):
        raise ModelError(f"{reference}: its config.json cannot be used: it names no 'model_type', such as \"bert\".")
    return values


def _check_type(values: Mapping[str, Any], reference: str, *, has_code: bool) -> None:
    model_type = values["model_type"]
    if has_code and model_type not in CONFIG_MAPPING:
        raise ModelError(
            f"{reference}: its config.json needs code from its own folder ('auto_map') for the model type "
            f"'{model_type}', which transformers {__version__} does not have. Such code is never run. {_ENCODERS}",
            code=ErrorCode.MODEL_UNSUPPORTED,
        )
    if model_type not in CONFIG_MAPPING:
        raise ModelError(
            f"{reference}: transformers {__version__} has no model type '{model_type}' (config.json). {_ENCODERS}"
        )


def _check_values(values: Mapping[str, Any], reference: str) -> None:
    _check_type(values, reference, has_code="auto_map" in values)
    if values.get("quantization_config"):
        raise ModelError(
            f"{reference}: its weights are quantized ('quantization_config' in config.json), so they cannot be "
            "finetuned and fused. Use the original weights in float32, float16 or bfloat16.",
            code=ErrorCode.MODEL_UNSUPPORTED,
        )


def _without_leftovers(values: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in _without_unsafe(values).items() if name not in _LEFTOVERS}
    # Recomputed activations only save memory.
    return {name: value for name, value in kept.items() if name != "gradient_checkpointing" or not value}


def _without_unsafe(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a config.json without those that may lead to code, or to files outside of the folder."""
    return {
        name: value
        for name, value in values.items()
        if name not in _UNSAFE and (name not in _ATTENTION or value in _OWN_ATTENTION)
    }


def _has_code(folder: Path) -> bool:
    files = (folder / "config.json", folder / "tokenizer_config.json")
    return any(file.is_file() and '"auto_map"' in file.read_text(encoding="utf-8", errors="replace") for file in files)


def check_is_encoder(config: Any, reference: str) -> None:
    """Check that a configuration describes an encoder with sequence classification.

    Raises:
        ModelError: it describes another kind of model.
    """
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise ModelError(
            f"{reference}: transformers has no sequence classification for '{config.model_type}' models, so the model "
            f"cannot be split into an encoder and a head. {_ENCODERS}",
            code=ErrorCode.MODEL_UNSUPPORTED,
        )
    # Some encoders, such as BERT, also have a class for causal language modelling.
    is_causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING
    is_causal = is_causal or any(getattr(config, name, False) for name in ("is_decoder", "causal"))
    if config.is_encoder_decoder or is_causal:
        _reject_decoder(config, reference)


def _reject_decoder(config: Any, reference: str) -> None:
    kind = "an encoder-decoder model" if config.is_encoder_decoder else "a causal language model"
    raise ModelError(
        f"{reference}: this '{config.model_type}' model is {kind}, not an encoder: it has no class token that "
        f"attends to the whole text. {_ENCODERS}",
        code=ErrorCode.MODEL_UNSUPPORTED,
    )


def build_classifier(config: Any, reference: str, num_labels: int) -> Any:
    """Build the sequence-classification model of a configuration, float32.

    Raises:
        ModelError: the configuration is not valid, or the class does not separate the encoder from the head.
    """
    config = type(config).from_dict(config.to_dict() | {"num_labels": num_labels})
    try:
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.float32, trust_remote_code=False)
    # For values that are not consistent, each architecture raises another type of exception.
    except Exception as failure:
        raise ModelError(f"{reference}: its config.json cannot be used: {first_line(failure)}") from None
    prefix = getattr(model, "base_model_prefix", "")
    encoder = getattr(model, prefix, None) if prefix else None
    if not isinstance(encoder, nn.Module) or encoder is model:
        raise ModelError(
            f"{reference}: {type(model).__name__} does not separate its encoder from its head (it has no "
            f"'{prefix or 'base_model_prefix'}'). {_ENCODERS}",
            code=ErrorCode.MODEL_UNSUPPORTED,
        )
    return model


def get_encoder(model: nn.Module) -> nn.Module:
    """The encoder module of a model with a head."""
    encoder: nn.Module = getattr(model, str(model.base_model_prefix))
    return encoder


def build_skeleton(config: Any, reference: str) -> Any:
    """Build a model without memory for its weights, to find out what is wrong with its architecture.

    Raises:
        ModelError: as `build_classifier`; or its attention is causal, or padding cannot be masked.
    """
    with torch.device("meta"), no_init_weights():
        model = build_classifier(config, reference, num_labels=2)
    encoder = get_encoder(model)
    if any(getattr(module, "is_causal", False) for module in encoder.modules()):
        _reject_decoder(config, reference)
    if "attention_mask" not in accepted_inputs(model):
        raise ModelError(
            f"{reference}: '{config.model_type}' models have no attention mask, so padding changes their outputs and a "
            f"score depends on which texts share a batch. {_ENCODERS}",
            code=ErrorCode.MODEL_UNSUPPORTED,
        )
    return model


def accepted_inputs(model: nn.Module) -> set[str]:
    """The names of the inputs that a model and its encoder both accept."""
    names = [set(inspect.signature(module.forward).parameters) for module in (model, get_encoder(model))]
    return set.intersection(*names)
