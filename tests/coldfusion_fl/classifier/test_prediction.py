"""The predictions of a classifier."""

import numpy as np
import pytest
import torch
from tiny_models import make_base
from transformers import AutoModelForSequenceClassification

from coldfusion_fl.classifier import open_classifier, predict_texts, prediction
from coldfusion_fl.errors import MismatchError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A sequence classification model that this package did not write."""
    base = make_base(tmp_path_factory.mktemp("models") / "base")
    model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=3, id2label=dict(enumerate("abc")))
    model.save_pretrained(base)
    return base


def test_predictions_do_not_depend_on_the_chunks(folder, monkeypatch):
    classifier = open_classifier(str(folder))
    texts = [f"text {'x ' * (number % 7)}" for number in range(25)]
    whole = predict_texts(classifier, texts)
    monkeypatch.setattr(prediction, "_AT_ONCE", 4)
    done = []
    parts = predict_texts(classifier, texts, progress=done.append)
    assert parts.labels == whole.labels
    assert np.allclose(parts.probabilities, whole.probabilities, atol=5e-3)  # bfloat16, where padding differs
    assert done == [4, 8, 12, 16, 20, 24, 25]
    assert set(whole.labels) <= set("abc")


def test_no_texts_have_no_predictions(folder):
    found = predict_texts(open_classifier(str(folder)), [])
    assert (found.labels, found.probabilities.shape) == ([], (0, 3))


def test_outputs_that_are_not_finite_are_reported(folder):
    classifier = open_classifier(str(folder))
    with torch.no_grad():
        classifier.model.classifier.bias[:] = torch.nan
    with pytest.raises(MismatchError, match="not finite"):
        predict_texts(classifier, ["text"])
