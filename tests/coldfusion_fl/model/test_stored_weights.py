"""A config.json that does not agree with the weights reserves no memory by what it says."""

import time

import pytest
from tiny_models import edit_json, make_base, make_checkpoint

from coldfusion_fl.classifier import open_classifier
from coldfusion_fl.errors import ErrorCode, ModelError
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.stored_weights import read_size

ABSURD = [
    {"hidden_size": 10**9, "num_attention_heads": 1},
    {"num_hidden_layers": 10**9},
    {"vocab_size": 10**12},
    {"intermediate_size": 10**9},
    {"max_position_embeddings": 10**12},
    {"hidden_size": 100_000, "intermediate_size": 1_000_000},  # each is harmless, and their product is not
    {"type_vocab_size": 1e300},
]


@pytest.mark.parametrize("values", ABSURD)
@pytest.mark.parametrize("use", [open_base, open_classifier])
def test_an_absurd_size_is_rejected_before_memory_is_reserved(tiny_base, tmp_path, values, use):
    folder = make_checkpoint(tmp_path / "model", tiny_base, 1)
    edit_json(folder / "config.json", **values)
    began = time.process_time()
    with pytest.raises(ModelError, match=r"config\.json") as error:
        use(str(folder))
    assert error.value.code == ErrorCode.MODEL_INVALID
    assert time.process_time() - began < 60  # a billion layers would take hours


def test_the_size_of_weights_is_read_from_all_shards(tmp_path, encoder):
    whole = read_size(make_base(tmp_path / "base"), "base")
    assert whole.weights > sum(array.size for array in encoder.values()) / 2
    assert whole.arrays > 30


def test_weights_that_are_no_safetensors_are_named(tmp_path):
    folder = make_base(tmp_path / "base")
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        open_base(str(folder))
