"""The predictions of a classifier."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from coldfusion_fl.classifier.folder import Classifier
from coldfusion_fl.data.task import Examples
from coldfusion_fl.errors import MismatchError
from coldfusion_fl.training.batches import tokenize
from coldfusion_fl.training.predict import predict

# Rows that are tokenised together: memory for tokens does not grow with the table.
_AT_ONCE = 8192


@dataclass(frozen=True)
class Predicted:
    """Predictions for n texts.

    Attributes:
        labels: the predicted classes, n names; or n numbers of a regression.
        probabilities: shape (n, classes), float32: the softmax of the outputs; None for a regression.
    """

    labels: list[str] | list[float]
    probabilities: np.ndarray | None


def predict_texts(
    classifier: Classifier,
    texts: Sequence[str],
    pairs: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Predicted:
    """Predict the classes of texts, in batches, on the GPU if there is one.

    Args:
        classifier: the classifier.
        texts: n texts.
        pairs: the n second texts, for a classifier of pairs.
        progress: called with the number of texts that are done.

    Raises:
        MismatchError: an output is not a finite number.
    """
    outputs = []
    for start in range(0, len(texts), _AT_ONCE):
        chunk = slice(start, start + _AT_ONCE)
        second = None if pairs is None else list(pairs[chunk])
        rows = Examples(list(texts[chunk]), second, np.zeros(len(texts[chunk]), np.int64))
        tokens = tokenize(classifier.tokenizer, rows, classifier.max_length)
        is_regression = not classifier.classes
        outputs.append(predict(classifier.model, classifier.tokenizer, tokens, full_precision=is_regression))
        if not np.isfinite(outputs[-1]).all():
            raise MismatchError(f"{classifier.reference}: its outputs are not finite numbers. Check its weights.")
        if progress:
            progress(start + len(tokens))
    if not outputs:
        return Predicted([], np.zeros((0, len(classifier.classes)), np.float32) if classifier.classes else None)
    logits = np.concatenate(outputs)
    if not classifier.classes:
        return Predicted(logits[:, 0].tolist(), None)
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponents / exponents.sum(axis=1, keepdims=True)
    return Predicted([classifier.classes[index] for index in logits.argmax(axis=1)], probabilities)
