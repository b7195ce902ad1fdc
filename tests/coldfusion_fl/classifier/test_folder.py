"""A classifier is written, and opened by this package and by transformers."""

import dataclasses
import json
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_models import ARCHITECTURES, make_base

from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.checkpoints.fusing import fuse_checkpoints
from coldfusion_fl.classifier import open_classifier, predict_texts, train_classifier
from coldfusion_fl.classifier.folder import save_classifier, to_classifier
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.catalogue import TaskSpec
from coldfusion_fl.data.task import build_task, load_task
from coldfusion_fl.errors import ErrorCode, ModelError
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import build_model, load_encoder, merge
from coldfusion_fl.training.batches import tokenize
from coldfusion_fl.training.predict import predict


@pytest.fixture(scope="module")
def task():
    found = load_task("film_critics-1")
    return dataclasses.replace(found, test=found.test.draw(20, [0]), validation=found.validation.draw(20, [0]))


def untrained(base, task, head):
    model = build_model(base, task.num_labels, head, seed=3)
    merge(model, load_encoder(base))
    return model


@pytest.mark.parametrize("head", ["mean", "class-token"])
@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "modernbert"])
def test_a_classifier_that_is_opened_predicts_what_it_did(tmp_path, task, architecture, head):
    assert architecture in ARCHITECTURES
    base = open_base(str(make_base(tmp_path / "base", architecture)))
    model = untrained(base, task, head)
    save_classifier(to_classifier(base, model, head, task, 32), tmp_path / "out")
    expected = predict(model, base.tokenizer, tokenize(base.tokenizer, task.test, 32))
    opened = open_classifier(str(tmp_path / "out"))
    found = predict_texts(opened, task.test.texts)
    assert (opened.classes, opened.text, opened.max_length) == (task.classes, ("text",), 32)
    assert np.allclose(found.probabilities, torch.softmax(torch.tensor(expected), 1), atol=1e-6)
    assert found.labels == [task.classes[index] for index in expected.argmax(axis=1)]
    assert np.allclose(found.probabilities.sum(axis=1), 1)


@pytest.mark.parametrize(("head", "registers"), [("class-token", False), ("mean", True)])
def test_transformers_loads_a_classifier_in_another_process(tmp_path, tiny_base, task, head, registers):
    base = open_base(str(tiny_base))
    save_classifier(to_classifier(base, untrained(base, task, head), head, task, 32), tmp_path / "out")
    code = f"""
import json, sys
{"import coldfusion_fl.classifier" if registers else ""}
from transformers import pipeline
found = pipeline("text-classification", {str(tmp_path / "out")!r})("a fine film", truncation=True)
assert {registers} or "coldfusion_fl" not in sys.modules
print(json.dumps(found))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    (found,) = json.loads(done.stdout.splitlines()[-1])
    assert found["label"] in task.classes
    ours = predict_texts(open_classifier(str(tmp_path / "out")), ["a fine film"])
    assert found["label"] == ours.labels[0]
    assert found["score"] == pytest.approx(float(ours.probabilities.max()), abs=2e-3)  # perhaps in bfloat16


@pytest.mark.parametrize("head", ["mean", "class-token"])
def test_a_regression_predicts_in_the_unit_of_its_labels(tmp_path, tiny_base, head):
    rows = pd.DataFrame({"text": [f"text {i}" for i in range(60)], "label": [str(1970 + i) for i in range(60)]})
    task = build_task("years", TaskSpec(train="x", metric="spearman"), {"train": rows})
    base = open_base(str(tiny_base))
    model = untrained(base, task, head)
    save_classifier(to_classifier(base, model, head, task, 32), tmp_path / "out")
    outputs = predict(model, base.tokenizer, tokenize(base.tokenizer, task.test, 32), full_precision=True)
    found = predict_texts(open_classifier(str(tmp_path / "out")), task.test.texts)
    assert found.probabilities is None
    assert found.labels == pytest.approx(task.predictions(outputs), rel=1e-6)
    assert 1900 < found.labels[0] < 2100


def test_training_scores_all_test_rows(tiny_base, task):
    base = open_base(str(tiny_base))
    settings = FinetuneSettings(examples=16, epochs=1, max_length=16)
    trained = train_classifier(base, load_encoder(base), task, settings, seed=0)
    assert (trained.head, trained.train_rows, trained.result.examples) == ("mean", 16, 16)
    assert 0 <= trained.score <= 100
    assert trained.baseline == task.baseline()


def test_an_encoder_without_a_head_is_no_classifier(tiny_base):
    with pytest.raises(ModelError, match="has no classification head.*coldfusion finetune") as error:
        open_classifier(str(tiny_base))
    assert error.value.code == ErrorCode.MODEL_UNSUPPORTED


def test_a_folder_that_cannot_be_opened_is_named(tmp_path, tiny_base):
    with pytest.raises(ModelError, match="does not exist"):
        open_classifier(str(tmp_path / "nowhere"))
    shutil.copytree(tiny_base, tmp_path / "broken")
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="cannot be loaded"):
        open_classifier(str(tmp_path / "broken"))


@pytest.mark.parametrize("head", ["mean", "class-token"])
@pytest.mark.parametrize("architecture", ["bert", "roberta", "distilbert", "mpnet"])
def test_a_classifier_is_a_base_with_its_encoder(tmp_path, task, architecture, head):
    base = open_base(str(make_base(tmp_path / "base", architecture)))
    save_classifier(to_classifier(base, untrained(base, task, head), head, task, 32), tmp_path / "out")
    again = open_base(str(tmp_path / "out"))
    expected, found = load_encoder(base), load_encoder(again)
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert again.config.model_type == architecture
    assert again.pooling == ("mean" if head == "mean" else "class-token")


@pytest.mark.parametrize("head", ["mean", "class-token"])
def test_classifiers_are_fused_without_their_heads(tmp_path, task, tiny_base, head):
    base = open_base(str(tiny_base))
    for number in (1, 2):
        model = untrained(base, task, head)
        encoder = {name: array + np.float32(number) for name, array in load_encoder(base).items()}
        merge(model, encoder)
        of_another = "f00" if number == 2 else encoder_hash(load_encoder(base))
        save_classifier(to_classifier(base, model, head, task, 32, of_another), tmp_path / str(number))
    fused = fuse_checkpoints([str(tmp_path / "1"), str(tmp_path / "2")], str(tiny_base))
    found, warnings = fused.encoder, [checkpoint.warnings for checkpoint in fused.checkpoints]
    assert all(np.allclose(found[name], array + 1.5) for name, array in load_encoder(base).items())
    assert not any("another base" in warning for warning in warnings[0])
    assert any("another base than this one (SHA-256 of its arrays: f00)" in warning for warning in warnings[1])
