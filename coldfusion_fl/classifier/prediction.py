"""The predictions of a classifier."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from coldfusion_fl.classifier.folder import Classifier
from coldfusion_fl.data.task import Examples
from coldfusion_fl.errors import DataError, MismatchError
from coldfusion_fl.training.batches import tokenize
from coldfusion_fl.training.predict import predict

if TYPE_CHECKING:
    import pandas as pd

# The columns of predictions in a table.
LABEL, PROBABILITY = "prediction", "probability"
# Rows that are tokenised together: memory for tokens does not grow with the table.
_AT_ONCE = 8192


@dataclass(frozen=True)
class Predicted:
    """Predictions for n texts.

    Attributes:
        labels: the predicted classes, n names; or n numbers of a regression.
        probabilities: shape (n, classes), float32: the softmax of the outputs; None for a regression.
        classes: the names of the classes, in the order of the probabilities; empty for a regression.
    """

    labels: list[str] | list[float]
    probabilities: np.ndarray | None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def to_dataframe(self) -> "pd.DataFrame":
        """A row for each text: `prediction`, its `probability`, and a column `probability.CLASS` for each class.

        Of a regression, there is `prediction` alone.
        """
        import pandas as pd

        columns: dict[str, object] = {LABEL: self.labels}
        if self.probabilities is not None:
            columns[PROBABILITY] = self.probabilities.max(axis=1) if len(self) else []
            columns |= {f"{PROBABILITY}.{name}": self.probabilities[:, i] for i, name in enumerate(self.classes)}
        return pd.DataFrame(columns)


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
        DataError: the classifier was trained on pairs and there are none, or not as many as texts.
        MismatchError: an output is not a finite number.
    """
    _check_pairs(classifier, texts, pairs)
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
        none = np.zeros((0, len(classifier.classes)), np.float32) if classifier.classes else None
        return Predicted([], none, classifier.classes)
    logits = np.concatenate(outputs)
    if not classifier.classes:
        return Predicted(logits[:, 0].tolist(), None)
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponents / exponents.sum(axis=1, keepdims=True)
    labels = [classifier.classes[index] for index in logits.argmax(axis=1)]
    return Predicted(labels, probabilities, classifier.classes)


def _check_pairs(classifier: Classifier, texts: Sequence[str], pairs: Sequence[str] | None) -> None:
    if pairs is None and len(classifier.text) > 1:
        raise DataError(
            f"{classifier.reference}: it was trained on pairs ({' and '.join(classifier.text)}), but there are no "
            "second texts. Give one for each text."
        )
    if pairs is not None and len(pairs) != len(texts):
        raise DataError(f"there are {len(texts)} texts, but {len(pairs)} second texts. Give one for each text.")
