"""A classifier as ONNX gives the outputs of PyTorch, in a process that knows neither PyTorch nor this package."""

import json
import subprocess
import sys

import numpy as np
import pytest
from tiny_models import ARCHITECTURES, make_base

from coldfusion_fl.classifier import open_classifier, predict_texts
from coldfusion_fl.classifier.folder import save_classifier, to_classifier
from coldfusion_fl.classifier.onnx_export import ONNX_FILE, export_onnx
from coldfusion_fl.data.task import load_task
from coldfusion_fl.errors import ModelError
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import build_model, load_encoder, merge

TEXTS = ["a fine film", "a film that is far too long, and not at all as good as the book was", "no"]
# What a program without PyTorch does: the tokenizer is the one of the folder, the lengths are its own.
PREDICT = f"""
import json, sys
from tokenizers import Tokenizer
import numpy as np, onnxruntime
folder = sys.argv[1]
tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
tokenizer.enable_padding()
tokenizer.enable_truncation(32)
texts = tokenizer.encode_batch({TEXTS!r})
session = onnxruntime.InferenceSession(folder + "/{ONNX_FILE}")
fields = {{"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}}
inputs = {{
    given.name: np.array([getattr(text, fields[given.name]) for text in texts]) for given in session.get_inputs()
}}
[logits] = session.run(["logits"], inputs)
assert not {{"torch", "transformers", "coldfusion_fl"}} & set(sys.modules)
print(json.dumps(logits.tolist()))
"""


def exported(folder, architecture, head):
    task, base = load_task("film_critics-1"), open_base(str(make_base(folder / "base", architecture)))
    model = build_model(base, task.num_labels, head, seed=3)
    merge(model, load_encoder(base))
    save_classifier(to_classifier(base, model, head, task, 32), folder / "out")
    opened = open_classifier(str(folder / "out"))
    return opened, export_onnx(opened, folder / "out")


@pytest.mark.parametrize(
    ("architecture", "head"),
    [
        ("bert", "mean"),
        *(pytest.param(name, "class-token", marks=pytest.mark.slow) for name in ARCHITECTURES),
    ],
)
def test_another_program_predicts_what_pytorch_does(tmp_path, architecture, head):
    opened, difference = exported(tmp_path, architecture, head)
    assert difference < 1e-5
    found = subprocess.run(
        [sys.executable, "-c", PREDICT, str(tmp_path / "out")], capture_output=True, text=True, check=True
    )
    logits = np.array(json.loads(found.stdout))
    exponents = np.exp(logits)
    expected = predict_texts(opened, TEXTS).probabilities
    assert np.allclose(exponents / exponents.sum(axis=1, keepdims=True), expected, atol=1e-2)  # bfloat16 in PyTorch


def test_outputs_that_differ_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.onnx.export", lambda *_, **__: None)
    monkeypatch.setattr("coldfusion_fl.classifier.onnx_export._difference", lambda *_: float("nan"))
    with pytest.raises(ModelError, match="differ"):
        exported(tmp_path, "bert", "class-token")
