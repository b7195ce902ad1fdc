"""A classifier in Hugging Face format: made of a finetuned model, written as a folder, and opened."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerBase
from transformers.initialization import no_init_weights

from coldfusion_fl.atomic_files import share_weights
from coldfusion_fl.classifier.mean_pooling import MeanPoolingConfig
from coldfusion_fl.data.task import Task
from coldfusion_fl.errors import ErrorCode, ModelError, first_line
from coldfusion_fl.model.architecture import BASE_HASH, MEAN_POOLING_TYPE, OWN_KEY, read_classifier_config
from coldfusion_fl.model.base import Base, open_folder
from coldfusion_fl.model.stored_weights import check_config_sizes, check_model_size, read_size

if TYPE_CHECKING:
    from coldfusion_fl.classifier.prediction import Predicted

_DEFAULT_LENGTH = 512


@dataclass(frozen=True)
class Classifier:
    """A classifier, ready for predictions.

    Attributes:
        reference: its folder, as the user wrote it; of a classifier that was finetuned here, the base's.
        model: the encoder with its head, a model of transformers.
        tokenizer: its tokenizer.
        classes: the names of the classes by index; empty for a regression.
        text: the columns or templates of the texts that it was trained on: one, or two for pairs.
        max_length: the number of tokens that longer texts are cut to.
    """

    reference: str
    model: nn.Module = field(repr=False)
    tokenizer: PreTrainedTokenizerBase = field(repr=False)
    classes: tuple[str, ...]
    text: tuple[str, ...]
    max_length: int

    def predict(self, texts: str | Sequence[str], pairs: str | Sequence[str] | None = None) -> "Predicted":
        """Predict the classes of texts, or the numbers of a regression: see `predict_texts`.

        Args:
            texts: n texts; one text alone is a list of one.
            pairs: the n second texts, for a classifier of pairs.

        Raises:
            DataError: the texts do not fit the classifier or each other.
            MismatchError: an output is not a finite number.
        """
        from coldfusion_fl.classifier.prediction import predict_texts

        return predict_texts(self, _as_list(texts), None if pairs is None else _as_list(pairs))


def _as_list(texts: str | Sequence[str]) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


def to_classifier(
    base: Base, model: nn.Module, head: str, task: Task, max_length: int, base_hash: str = ""
) -> Classifier:
    """Make a classifier of a finetuned model: a copy of its weights as a model of transformers, on the CPU.

    The outputs of a regression are in the unit of its labels: the standardisation becomes a part of the last layer.

    Args:
        base: the base that it was finetuned from.
        model: the encoder with its head, as `encoder.build_model` returns it.
        head: `class-token` or `mean`.
        task: the task, for the names of its classes and the columns of its texts.
        max_length: the number of tokens that it was trained with.
        base_hash: the SHA-256 of the base's arrays; empty: it is not known.
    """
    labels: dict[str, Any] = {"num_labels": 1, "problem_type": "regression"}
    if task.classes:
        names = dict(enumerate(task.classes))
        labels = {"id2label": names, "label2id": {name: index for index, name in names.items()}}
        labels["problem_type"] = "single_label_classification"
    values = base.config.to_dict()
    config = MeanPoolingConfig(encoder=values, **labels) if head == "mean" else type(base.config)(**values | labels)
    length = min(max_length, base.tokenizer.model_max_length)
    setattr(
        config,
        OWN_KEY,
        {"task": task.name, "head": head, "text": list(task.text), "max-length": length, BASE_HASH: base_hash},
    )
    classifier: Any = AutoModelForSequenceClassification.from_config(
        config, dtype=torch.float32, trust_remote_code=False
    )
    own, written = f"{model.base_model_prefix}.", f"{classifier.base_model_prefix}."
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    classifier.load_state_dict(
        {written + name.removeprefix(own) if name.startswith(own) else name: state[name] for name in state}
    )
    if not task.classes:
        _to_unit_of_labels(classifier, *task.mean_and_deviation)
    return Classifier(base.reference, classifier.eval(), base.tokenizer, task.classes or (), task.text, length)


def save_classifier(classifier: Classifier, folder: Path) -> None:
    """Write a classifier of `to_classifier` as a folder that transformers loads.

    Args:
        classifier: the classifier.
        folder: the folder to create; it must not exist.
    """
    model: Any = classifier.model
    folder.mkdir()
    model.save_pretrained(folder)
    share_weights(folder, "config.json")
    classifier.tokenizer.save_pretrained(folder)


def _to_unit_of_labels(model: nn.Module, mean: float, deviation: float) -> None:
    """Scale and shift the last layer of a head with one output, in place."""
    last = [module for module in model.modules() if isinstance(module, nn.Linear) and module.out_features == 1][-1]
    with torch.no_grad():
        last.weight.mul_(deviation)
        last.bias.mul_(deviation).add_(mean)


def open_classifier(reference: str) -> Classifier:
    """Open a classifier of `save_classifier`, or any sequence classification model in Hugging Face format.

    Args:
        reference: a folder, or a Hub id. No code in the folder is run, and only safetensors files are read.

    Raises:
        ModelError: the folder does not exist, cannot be loaded, or has no classification head.
    """
    folder = open_folder(reference)
    config = read_classifier_config(folder, reference)
    _check_size(folder, config, reference)
    try:
        model, report = AutoModelForSequenceClassification.from_pretrained(
            folder, config=config, dtype=torch.float32, use_safetensors=True, trust_remote_code=False,
            output_loading_info=True,
        )  # fmt: skip
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as failure:  # transformers, safetensors and torch raise different types
        raise ModelError(f"{reference}: it cannot be loaded: {first_line(failure).rstrip('.')}.") from None
    if missing := sorted(report["missing_keys"]):
        raise ModelError(
            f"{reference}: this model has no classification head ('{missing[0]}' is missing). Make a classifier of it: "
            f"coldfusion finetune {reference} --task TASK --out FOLDER",
            code=ErrorCode.MODEL_UNSUPPORTED,
        )
    own: Mapping[str, Any] = getattr(config, OWN_KEY, None) or {}
    is_regression = config.num_labels == 1
    classes = () if is_regression else tuple(config.id2label[index] for index in range(config.num_labels))
    longest = min(tokenizer.model_max_length, _DEFAULT_LENGTH)
    return Classifier(
        reference, model.eval(), tokenizer, classes, tuple(own.get("text", ("text",))), own.get("max-length", longest)
    )


def _check_size(folder: Path, config: Any, reference: str) -> None:
    """Check that the configuration describes a model of the size of the weights, before memory is reserved for it."""
    stored = read_size(folder, reference)
    try:
        encoder = AutoConfig.for_model(**config.encoder) if config.model_type == MEAN_POOLING_TYPE else config
        check_config_sizes(encoder, stored, reference)
        with torch.device("meta"), no_init_weights():
            model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    except ModelError:
        raise
    except Exception as failure:  # each architecture raises another type for values that are not consistent
        raise ModelError(f"{reference}: its config.json cannot be used: {first_line(failure)}") from None
    check_model_size(model, stored, reference)
