"""Only encoders are bases, code in a folder is never run, and an earlier use of a model changes nothing."""

import json

import numpy as np
import pytest
import torch
from tiny_models import DECODERS, edit_json, make_base, make_checkpoint
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

from coldfusion_fl.checkpoints.fusing import fuse_checkpoints
from coldfusion_fl.classifier import open_classifier
from coldfusion_fl.classifier.folder import save_classifier, to_classifier
from coldfusion_fl.errors import ErrorCode, ModelError
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import build_model, load_encoder, merge
from coldfusion_fl.model.export import check_export, save_model

IDS = {"input_ids": torch.tensor([[101, 4937, 102]]), "attention_mask": torch.ones(1, 3, dtype=torch.long)}


@pytest.mark.parametrize("architecture", sorted(DECODERS))
def test_a_model_that_is_no_encoder_is_rejected(tmp_path, architecture):
    with pytest.raises(ModelError, match=f"'{architecture}' model is .*, not an encoder") as error:
        open_base(str(make_base(tmp_path / "base", architecture)))
    assert error.value.code == ErrorCode.MODEL_UNSUPPORTED


def test_an_encoder_that_is_configured_as_a_decoder_is_rejected(tmp_path):
    with pytest.raises(ModelError, match="causal") as error:
        open_base(str(make_base(tmp_path / "base", is_decoder=True)))
    assert error.value.code == ErrorCode.MODEL_UNSUPPORTED


def test_an_architecture_that_cannot_mask_padding_is_rejected(tmp_path):
    with pytest.raises(ModelError, match="'fnet'.*attention mask") as error:
        open_base(str(make_base(tmp_path / "base", "fnet")))
    assert error.value.code == ErrorCode.MODEL_UNSUPPORTED


@pytest.fixture
def code(tmp_path, monkeypatch):
    """Values of a config.json that name code; to run it, or to ask for permission, fails the test."""
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked"))
    return {"auto_map": dict.fromkeys(("AutoConfig", "AutoModelForSequenceClassification"), "custom.Model")}


def write_code(folder):
    (folder / "custom.py").write_text("raise SystemExit('this code was run')\n")
    return folder


def test_a_model_type_that_needs_code_from_the_folder_is_rejected(tmp_path, code):
    folder = write_code(make_base(tmp_path / "base"))
    edit_json(folder / "config.json", model_type="mine", **code)
    with pytest.raises(ModelError, match="'auto_map'.*'mine'") as error:
        open_base(str(folder))
    assert error.value.code == ErrorCode.MODEL_UNSUPPORTED


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
def test_code_in_the_folder_of_a_known_model_type_is_noted_and_not_run(tmp_path, code, file):
    folder = write_code(make_base(tmp_path / "base"))
    edit_json(folder / file, **(code if file == "config.json" else {"auto_map": {"AutoTokenizer": ["custom.T", None]}}))
    base = open_base(str(folder))
    assert "never run" in base.notes[0]
    load_encoder(base)
    build_model(base, 2, "class-token", seed=0)


def test_no_use_of_a_model_folder_runs_its_code(tmp_path, monkeypatch, task):
    """A person who answers each question with yes, in a terminal, does not run it either."""
    monkeypatch.setattr("builtins.input", lambda *_: "y")
    folder, mark = make_checkpoint(tmp_path / "base", make_base(tmp_path / "first"), 1), tmp_path / "was-run"
    (folder / "custom.py").write_text(f"open({str(mark)!r}, 'w').close()\nraise ImportError\n")
    classes = ("AutoConfig", "AutoModel", "AutoModelForSequenceClassification", "AutoModelForMaskedLM")
    code = {"auto_map": dict.fromkeys(classes, "custom.Model") | {"AutoTokenizer": ["custom.T", "custom.T"]}}
    edit_json(folder / "config.json", **code, _attn_implementation="acme/kernel", use_kernels=True)
    edit_json(folder / "tokenizer_config.json", **code)
    base = open_base(str(folder))
    assert not hasattr(base.config, "auto_map")
    check_export(base)
    save_model(base, load_encoder(base), tmp_path / "out")
    model = build_model(base, task.num_labels, "class-token", seed=0)
    merge(model, load_encoder(base))
    save_classifier(to_classifier(base, model, "class-token", task, 16), tmp_path / "classifier")
    for classifier in (folder, tmp_path / "classifier"):
        open_classifier(str(classifier))
    fuse_checkpoints([str(folder), str(tmp_path / "classifier")], str(folder))
    AutoModel.from_pretrained(tmp_path / "out")
    assert not mark.exists()
    # What is made of it names no code either, so nothing is run where another program trusts it.
    written = [file for made in ("out", "classifier") for file in (tmp_path / made).glob("*.json")]
    assert [file for file in written if "custom." in file.read_text() or "acme/" in file.read_text()] == []


LEFTOVERS = [
    {"problem_type": "multi_label_classification"},
    {"problem_type": "regression", "id2label": {"0": "x"}, "label2id": {"x": 0}},
    {"problem_type": "single_label_classification", "id2label": {"0": "x"}},
    {"id2label": {"0": "a", "1": "b", "2": "c"}, "label2id": {"a": 0, "b": 1, "c": 2}, "num_labels": 3},
    {"classifier_dropout": 0.9},
    {"return_dict": False},
    {"output_hidden_states": True},
    {"output_attentions": True},
    {"gradient_checkpointing": True},
    {"_attn_implementation": "flash_attention_2"},
    {"torch_dtype": "float16"},
]


@pytest.mark.parametrize("leftover", LEFTOVERS, ids="-".join)
@pytest.mark.parametrize("num_labels", [1, 3])
def test_what_an_earlier_use_left_in_the_config_changes_nothing(tmp_path, leftover, num_labels):
    labels = torch.tensor([0.5]) if num_labels == 1 else torch.tensor([2])
    found = []
    for name in ("plain", "used"):
        folder = make_base(tmp_path / name)
        if name == "used":
            edit_json(folder / "config.json", **leftover)
        base = open_base(str(folder))
        model = build_model(base, num_labels, "class-token", seed=0).train()
        merge(model, load_encoder(base))
        torch.manual_seed(0)
        output = model(**IDS, labels=labels)
        assert output["logits"].shape == (1, num_labels)
        save_model(base, load_encoder(base), tmp_path / f"{name}-saved")
        found.append((output["loss"].item(), (tmp_path / f"{name}-saved" / "config.json").read_text()))
    assert found[0] == found[1]


def test_the_head_of_an_earlier_finetuning_is_not_part_of_the_base(tmp_path):
    folder = make_base(tmp_path / "base")
    before = load_encoder(open_base(str(folder)))
    config = AutoConfig.from_pretrained(folder, num_labels=7)
    AutoModelForSequenceClassification.from_pretrained(folder, config=config).save_pretrained(folder)
    after = load_encoder(open_base(str(folder)))
    assert {name: array.tobytes() for name, array in after.items()} == {n: a.tobytes() for n, a in before.items()}


@pytest.mark.parametrize(
    ("values", "code", "fact"),
    [
        ({"quantization_config": {"quant_method": "gptq"}}, ErrorCode.MODEL_UNSUPPORTED, "quantized"),
        ({"model_type": None}, ErrorCode.MODEL_INVALID, "model_type"),
        ({"model_type": ["bert"]}, ErrorCode.MODEL_INVALID, "model_type"),
        ({"hidden_size": 33}, ErrorCode.MODEL_INVALID, "33"),
    ],
)
def test_a_config_that_cannot_be_used_is_rejected_when_the_base_is_opened(tmp_path, values, code, fact):
    folder = make_base(tmp_path / "base")
    edit_json(folder / "config.json", **values)
    with pytest.raises(ModelError, match=fact) as error:
        open_base(str(folder))
    assert error.value.code == code


@pytest.mark.parametrize("is_alone", [True, False])
def test_an_adapter_is_rejected(tmp_path, is_alone):
    folder = make_base(tmp_path / "base")
    edit_json(folder / "adapter_config.json", peft_type="LORA", base_model_name_or_path="some/model")
    (folder / "adapter_model.safetensors").write_bytes(b"")
    if is_alone:
        (folder / "config.json").unlink()
        (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="merge_and_unload") as error:
        open_base(str(folder))
    assert error.value.code == ErrorCode.MODEL_UNSUPPORTED


def test_a_configuration_of_an_adapter_without_its_weights_changes_nothing(tmp_path):
    folder = make_base(tmp_path / "base")
    before = load_encoder(open_base(str(folder)))
    edit_json(folder / "adapter_config.json", peft_type="LORA", base_model_name_or_path="some/model")
    base = open_base(str(folder))
    assert any("adapter_config.json" in note for note in base.notes)
    after = load_encoder(base)
    assert {name: array.tobytes() for name, array in after.items()} == {n: a.tobytes() for n, a in before.items()}


def test_weights_that_are_not_there_are_named_with_the_cause(tmp_path):
    folder = make_base(tmp_path / "base")
    (folder / "model.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n")
    with pytest.raises(ModelError, match="git lfs pull"):
        open_base(str(folder))
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("/nowhere/model.safetensors")
    with pytest.raises(ModelError, match="/nowhere/model.safetensors"):
        open_base(str(folder))


def test_a_model_in_a_folder_of_its_own_is_named(tmp_path):
    make_base(tmp_path / "base" / "0_Transformer")
    with pytest.raises(ModelError, match="0_Transformer") as error:
        open_base(str(tmp_path / "base"))
    assert error.value.code == ErrorCode.MODEL_MISSING


@pytest.mark.parametrize("padding", [None, -1, 40_000])
@pytest.mark.parametrize("architecture", ["roberta", "modernbert"])
def test_a_missing_padding_token_of_the_config_is_the_tokenizers(tmp_path, architecture, padding):
    folder = make_base(tmp_path / "base", architecture)
    edit_json(folder / "config.json", pad_token_id=padding)
    base = open_base(str(folder))
    model = build_model(base, 2, "class-token", seed=0)
    merge(model, load_encoder(base))
    assert model(**IDS)["logits"].isfinite().all()


def test_half_precision_and_sharded_weights_are_read_as_float32(tmp_path):
    folder = make_base(tmp_path / "base")
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.bfloat16)
    (folder / "model.safetensors").unlink()
    model.base_model.save_pretrained(folder, max_shard_size="500KB")
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    encoder = load_encoder(open_base(str(folder)))
    assert {array.dtype for array in encoder.values()} == {np.dtype(np.float32)}
