"""A classifier as ONNX, for programs without PyTorch: exported by PyTorch, and checked with ONNX Runtime."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import nn

from coldfusion_fl.classifier.folder import Classifier
from coldfusion_fl.errors import ErrorCode, ModelError, first_line

# The place in a repository where the Hugging Face Hub's libraries look for it.
ONNX_FILE = Path("onnx", "model.onnx")
_EXAMPLES = ["One text.", "Another text, with some more words than the first one has."]
# Texts of other numbers and lengths than those that the model is traced with.
_CHECKED = (["A text."], ["Three texts", "of several", "lengths. " * 20])
_TOLERANCE = 1e-3


def export_onnx(classifier: Classifier, folder: Path) -> float:
    """Write a classifier as ONNX, and compare its outputs with those of PyTorch.

    PyTorch puts the weights of a model above 1.5 GB into a file beside it, because protobuf ends at 2 GB.

    The inputs are the tensors of the tokenizer, int64 of shape (batch, length); both sizes are free. The output is
    `logits`, float32 of shape (batch, classes), or (batch, 1) for a regression.

    Args:
        classifier: the classifier; its model is moved to the CPU.
        folder: the folder of the classifier; `ONNX_FILE` in it is written.

    Returns:
        The largest absolute difference of a logit.

    Raises:
        ModelError: the model cannot be exported, or the outputs differ.
    """
    model = classifier.model.float().cpu().eval()
    file = folder / ONNX_FILE
    file.parent.mkdir(exist_ok=True)
    tokens = dict(classifier.tokenizer(_EXAMPLES, padding=True, return_tensors="pt"))
    names = list(tokens)
    free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    try:
        with _without_warnings():
            torch.onnx.export(
                _Logits(model, names), tuple(tokens.values()), str(file), input_names=names, output_names=["logits"],
                dynamic_shapes=(tuple(free for _ in names),), dynamo=True, external_data=False, verbose=False,
            )  # fmt: skip
    except Exception as failure:  # the exporter raises many types
        raise ModelError(
            f"{classifier.reference}: this model cannot be exported to ONNX: {first_line(failure)}",
            code=ErrorCode.MODEL_UNSUPPORTED,
        ) from None
    difference = max(_difference(classifier, file, names, texts) for texts in _CHECKED)
    if not difference <= _TOLERANCE:
        raise ModelError(
            f"{classifier.reference}: the outputs of its ONNX file differ by {difference:.2g} from those of PyTorch.",
            code=ErrorCode.MODEL_UNSUPPORTED,
        )
    return difference


@contextmanager
def _without_warnings() -> Iterator[None]:
    """A context without the exporter's remarks: it logs that operators of torchvision are skipped."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class _Logits(nn.Module):
    """A model of transformers as a function of tensors, whose names the exporter then need not know."""

    def __init__(self, model: nn.Module, names: list[str]) -> None:
        super().__init__()
        self._model = model
        self._names = names

    def forward(self, *tensors: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self._model(**dict(zip(self._names, tensors, strict=True)))["logits"]
        return logits


def _difference(classifier: Classifier, file: Path, names: list[str], texts: list[str]) -> float:
    """The largest absolute difference of a logit between ONNX Runtime and PyTorch."""
    import onnxruntime

    tokens = classifier.tokenizer(
        texts, padding=True, truncation=True, max_length=classifier.max_length, return_tensors="np"
    )
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    # An input that the model does not use is not in the file.
    used = {given.name for given in session.get_inputs()}
    [found] = session.run(["logits"], {name: tokens[name].astype(np.int64) for name in names if name in used})
    with torch.inference_mode():
        inputs = {name: torch.from_numpy(tokens[name].astype(np.int64)) for name in names}
        expected = classifier.model(**inputs)["logits"].numpy()
    return float(np.abs(found - expected).max())
