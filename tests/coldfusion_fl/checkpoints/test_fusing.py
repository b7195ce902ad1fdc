"""Checkpoints with any heads, types and files are fused like the contributions of a round."""

import json
import shutil
import tempfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from tiny_models import edit_json, make_base, make_checkpoint
from transformers import AutoModel, AutoTokenizer

from coldfusion_fl.checkpoints import candidates
from coldfusion_fl.checkpoints.fusing import fuse_checkpoints
from coldfusion_fl.errors import ErrorCode, FusionError, MismatchError, ModelError, RunFolderError, SettingsError
from coldfusion_fl.fusion import Contribution, Ties, fuse


def stored(folder):
    """The encoder in a checkpoint's file."""
    return {name.removeprefix("bert."): array for name, array in load_file(f"{folder}/model.safetensors").items()}


def edit_weights(folder, change):
    file = f"{folder}/model.safetensors"
    weights = load_file(file)
    save_file(change(weights), file, {"format": "pt"})


def warnings_of(found):
    return [warning for fused in found.checkpoints for warning in fused.warnings]


def test_the_mean_is_numpys(three, tiny_base, encoder):
    found = fuse_checkpoints(three, str(tiny_base))
    arrays = [stored(folder) for folder in three]
    assert found.encoder.keys() == encoder.keys()
    for name, array in found.encoder.items():
        np.testing.assert_allclose(array, np.mean([one[name] for one in arrays], axis=0), rtol=1e-5, atol=1e-7)
    assert [round(fused.share, 4) for fused in found.checkpoints] == [0.3333] * 3
    assert not warnings_of(found)
    norms = [np.sqrt(sum(((one[name] - encoder[name]) ** 2).sum() for name in encoder)) for one in arrays]
    assert [fused.norm for fused in found.checkpoints] == pytest.approx(norms, rel=1e-5)


def test_any_operator_of_a_run_fuses(three, tiny_base, encoder):
    found = fuse_checkpoints(three, str(tiny_base), fusion="ties(density=0.3)")
    parts = [Contribution(str(number), stored(folder)) for number, folder in enumerate(three)]
    parts = [Contribution(part.name, {name: part.encoder[name] for name in encoder}) for part in parts]
    expected = fuse(Ties(density=0.3), encoder, parts)
    for name, array in found.encoder.items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-5, atol=1e-7)


@settings(max_examples=5)
@given(
    weights=st.lists(st.floats(0.1, 100), min_size=3, max_size=3),
    rate=st.floats(0.1, 1.5),
)
def test_weights_and_the_server_optimizer(three, tiny_base, encoder, weights, rate):
    found = fuse_checkpoints(
        three, str(tiny_base), fusion="weighted-mean", weights=weights,
        server_optimizer=f"learning-rate(learning-rate={rate!r})",
    )  # fmt: skip
    arrays = [stored(folder) for folder in three]
    for name, array in found.encoder.items():
        mean = np.average([one[name] for one in arrays], axis=0, weights=weights)
        np.testing.assert_allclose(array, encoder[name] + rate * (mean - encoder[name]), rtol=1e-4, atol=1e-5)
    assert [fused.share for fused in found.checkpoints] == pytest.approx(np.array(weights) / sum(weights))


def test_neither_the_order_nor_the_folders_change_the_result(three, tiny_base, tmp_path):
    copies = [str(shutil.copytree(folder, tmp_path / str(number))) for number, folder in enumerate(reversed(three))]
    assert len({fuse_checkpoints(one, str(tiny_base), fusion="dare").sha256 for one in (three, copies)}) == 1


def test_a_single_checkpoint_is_the_result(three, tiny_base):
    found = fuse_checkpoints(three[:1], str(tiny_base))
    assert found.sha256 == found.checkpoints[0].sha256
    assert found.checkpoints[0].cosine is None


@pytest.mark.parametrize(("dtype", "error"), [(torch.bfloat16, 2**-8), (torch.float16, 2**-11)])
def test_lower_precision_becomes_float32(checkpoint, tiny_base, dtype, error):
    whole, half = checkpoint("whole"), checkpoint("half", dtype=dtype)
    found = fuse_checkpoints([half], str(tiny_base))
    for name, array in found.encoder.items():
        assert array.dtype == np.float32
        np.testing.assert_allclose(array, stored(whole)[name], rtol=error, atol=1e-6)


def test_shards_are_read(checkpoint, tiny_base, tmp_path):
    whole, sharded = checkpoint("whole"), checkpoint("sharded", max_shard_size="500KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    assert len({fuse_checkpoints([one], str(tiny_base)).sha256 for one in (whole, sharded)}) == 1


def test_a_run_folder_stands_for_its_model(checkpoint, tiny_base, tmp_path):
    checkpoint("run/model")
    (tmp_path / "run" / "run.json").write_text("{}")
    found = fuse_checkpoints([str(tmp_path / "run")], str(tiny_base))
    assert found.checkpoints[0].checkpoint.folder == tmp_path / "run" / "model"


def test_names_of_old_versions_are_renamed_by_transformers(checkpoint, tiny_base):
    old = checkpoint("old")
    before = fuse_checkpoints([old], str(tiny_base)).sha256

    def rename(weights):
        return {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): array
            for name, array in weights.items()
        }

    edit_weights(old, rename)
    assert fuse_checkpoints([old], str(tiny_base)).sha256 == before


def test_a_checkpoint_without_pooler_keeps_the_bases(checkpoint, tiny_base, encoder):
    found = fuse_checkpoints([checkpoint("masked", kind="MaskedLM")], str(tiny_base))
    assert warnings_of(found) == ["it has no pooler. The base's pooler stands for it."]
    assert found.encoder["pooler.dense.weight"].tobytes() == encoder["pooler.dense.weight"].tobytes()


def test_a_pooler_that_the_base_lacks_is_left_out(checkpoint, tiny_base, tmp_path):
    bare = shutil.copytree(tiny_base, tmp_path / "bare")
    edit_weights(bare, lambda weights: {name: array for name, array in weights.items() if "pooler" not in name})
    found = fuse_checkpoints([checkpoint("pooled")], str(bare))
    assert warnings_of(found) == ["its pooler is left out, because the base has none."]
    assert not any("pooler" in name for name in found.encoder)


@pytest.fixture
def grown(tiny_base, tmp_path):
    """A base whose vocabulary grew by two tokens."""
    folder = tmp_path / "grown"
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_base), AutoModel.from_pretrained(tiny_base)
    tokenizer.add_tokens(["<one>", "<two>"])
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_added_tokens_are_left_out(grown, three, tiny_base, encoder):
    found = fuse_checkpoints([str(grown), three[0]], str(tiny_base))
    assert found.checkpoints[0].warnings == (
        "it has 2 added tokens ('<one>', '<two>') and 2 rows more than the base's token embedding, which are left out. "
        "The result has the base's vocabulary.",
        "its encoder is the base's, unchanged.",
    )
    name = "embeddings.word_embeddings.weight"
    assert found.encoder[name].shape == encoder[name].shape
    np.testing.assert_allclose(found.encoder[name], (encoder[name] + stored(three[0])[name]) / 2, rtol=1e-5, atol=1e-7)


def test_added_rows_without_a_tokenizer_are_refused(grown, tiny_base):
    for file in grown.glob("*token*"):
        file.unlink()
    (grown / "vocab.txt").unlink(missing_ok=True)
    with pytest.raises(MismatchError, match="30524 rows, and the base's has 30522, and it has no tokenizer"):
        fuse_checkpoints([str(grown)], str(tiny_base))


def test_a_checkpoint_without_tokenizer_has_the_bases(checkpoint, tiny_base, tmp_path):
    bare = checkpoint("bare")
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        (tmp_path / "bare" / name).unlink()
    found = fuse_checkpoints([bare], str(tiny_base))
    assert warnings_of(found) == ["it has no tokenizer that can be read. Its tokens are taken for the base's."]


def test_another_vocabulary_is_refused_with_figures(checkpoint, tiny_base, tmp_path):
    other = checkpoint("other")
    file = tmp_path / "other" / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    vocabulary["cat"], vocabulary["dog"] = vocabulary["dog"], vocabulary["cat"]
    file.write_text(json.dumps(content))
    with pytest.raises(
        MismatchError, match=r"other: its vocabulary is another one: 2 of the base's 30522 tokens.*'cat'"
    ):
        fuse_checkpoints([other], str(tiny_base))


@pytest.mark.parametrize(
    ("change", "figures"),
    [
        ({"hidden_size": 48}, r"hidden_size 48 \(base: 32\)"),
        ({"num_hidden_layers": 3}, r"num_hidden_layers 3 \(base: 2\)"),
        ({"num_attention_heads": 4}, r"num_attention_heads 4 \(base: 2\)"),
        ({"architecture": "roberta"}, "'roberta' model, and the base is a 'bert' model"),
    ],
)
def test_another_architecture_is_refused_with_figures(three, tiny_base, tmp_path, monkeypatch, change, figures):
    other = make_base(tmp_path / "other", **change)
    monkeypatch.setattr(candidates, "read_encoder", None)  # before any weights are read
    with pytest.raises(MismatchError, match=f"other: .*{figures}") as error:
        fuse_checkpoints([*three, str(other)], str(tiny_base))
    assert error.value.code == ErrorCode.ARRAYS_MISMATCH


def test_more_layers_than_the_config_has_are_refused(tiny_base, tmp_path):
    deeper = make_base(tmp_path / "deeper", num_hidden_layers=3)
    edit_json(deeper / "config.json", num_hidden_layers=2)
    with pytest.raises(MismatchError, match="16 tensors of layers that the base does not have"):
        fuse_checkpoints([str(deeper)], str(tiny_base))


def test_a_file_that_was_cut_is_refused_by_name(checkpoint, three, tiny_base, tmp_path, monkeypatch):
    checkpoint("cut")
    file = tmp_path / "cut" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    monkeypatch.setattr(candidates, "read_encoder", None)  # before any weights are read
    with pytest.raises(ModelError, match=r"cut: model\.safetensors cannot be read.*Copy or download it again"):
        fuse_checkpoints([*three, str(tmp_path / "cut")], str(tiny_base))


def test_a_missing_shard_is_refused_by_name(checkpoint, tiny_base, tmp_path):
    sharded = checkpoint("sharded", max_shard_size="500KB")
    missing = sorted((tmp_path / "sharded").glob("*.safetensors"))[1]
    missing.unlink()
    with pytest.raises(ModelError, match=f"{missing.name} is missing"):
        fuse_checkpoints([sharded], str(tiny_base))


@pytest.mark.parametrize("index", ["{", "[]", '{"weight_map": {}}', '{"weight_map": {"a": "../model.safetensors"}}'])
def test_an_invalid_index_is_refused_by_name(checkpoint, tiny_base, tmp_path, index):
    odd = checkpoint("odd")
    (tmp_path / "odd" / "model.safetensors").rename(tmp_path / "model.safetensors")
    (tmp_path / "odd" / "model.safetensors.index.json").write_text(index)
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json does not list the files"):
        fuse_checkpoints([odd], str(tiny_base))


def test_values_that_are_not_finite_are_refused(checkpoint, tiny_base):
    damaged = checkpoint("damaged")

    def damage(weights):
        weights["bert.embeddings.LayerNorm.bias"][3] = np.nan
        return weights

    edit_weights(damaged, damage)
    with pytest.raises(MismatchError, match="damaged: 'embeddings.LayerNorm.bias' holds values that are not finite"):
        fuse_checkpoints([damaged], str(tiny_base))


def test_integer_weights_are_refused(checkpoint, tiny_base):
    quantized = checkpoint("quantized")
    name = "bert.encoder.layer.0.output.dense.weight"
    edit_weights(quantized, lambda weights: weights | {name: weights[name].astype(np.int8)})
    with pytest.raises(ModelError, match=f"'{name}' in model.safetensors has the type I8"):
        fuse_checkpoints([quantized], str(tiny_base))


def test_the_screening_rejects_an_outlier(checkpoint, three, tiny_base):
    loud = checkpoint("loud", size=1.0)
    found = fuse_checkpoints([*three, loud], str(tiny_base), screening="size(factor=5)")
    assert [fused.rejected_by for fused in found.checkpoints] == ["", "", "", "size"]
    assert "too large" in found.checkpoints[3].reason
    assert found.checkpoints[3].share is None
    assert found.sha256 == fuse_checkpoints(three, str(tiny_base)).sha256


def test_nothing_is_left_after_the_screening(tiny_base):
    with pytest.raises(FusionError, match=r"rejected all checkpoints.*it sent the base back unchanged"):
        fuse_checkpoints([str(tiny_base)], str(tiny_base), screening="size")


def test_greedy_soup_uses_the_score(three, tiny_base):
    scores = iter([3.0, 1.0, 2.0, 4.0, 0.0])  # of each alone, then of the best with the second and with the third
    found = fuse_checkpoints(
        three, str(tiny_base), screening="greedy-soup", make_score_fn=lambda base: lambda encoder: next(scores)
    )
    assert sorted(fused.rejected_by for fused in found.checkpoints) == ["", "", "greedy-soup"]


def test_equal_checkpoints_are_warned_of(three, tiny_base):
    found = fuse_checkpoints([three[0], three[1], three[0], str(tiny_base)], str(tiny_base))
    assert warnings_of(found) == [
        f"its encoder is the same as that of {three[0]}, so it counts twice.",
        "its encoder is the base's, unchanged.",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fusion": "fisher"}, "fisher needs the Fisher diagonal"),
        ({"fusion": "private-mean"}, "private-mean protects the contributors of a run"),
        ({"fusion": "weighted-mean"}, "needs a weight for each checkpoint"),
        ({"fusion": "median", "weights": (1, 2, 3)}, "median ignores weights"),
        ({"weights": (1, 2)}, "2 weights for 3 checkpoints"),
        ({"weights": (1, 2, -1)}, "above 0"),
        ({"screening": "greedy-soup"}, "greedy-soup needs a score"),
        ({"fusion": "tise"}, "did you mean|unknown name 'tise'"),
    ],
)
def test_settings_are_checked_before_anything_is_loaded(three, changes, message):
    with pytest.raises(SettingsError, match=message):
        fuse_checkpoints(three, "no/such/base", **changes)


def test_too_little_disk_space_is_found_before_the_weights_are_read(three, tiny_base, monkeypatch):
    monkeypatch.setattr(candidates.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 9, 1000))
    with pytest.raises(RunFolderError, match=r"fusing 3 checkpoints of .* MiB needs .* are free") as error:
        fuse_checkpoints(three, str(tiny_base))
    assert error.value.code == ErrorCode.DISK_FULL


def test_nothing_stays_in_the_folder_for_arrays(three, tiny_base, tmp_path):
    with tempfile.TemporaryDirectory(dir=tmp_path) as folder:
        fuse_checkpoints(three, str(tiny_base), folder=tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [folder.rpartition("/")[2]]


@pytest.mark.parametrize(
    "architecture", ["roberta", "distilbert", "electra", "deberta-v2", "albert", "mpnet", "modernbert"]
)
def test_other_architectures(tmp_path, architecture):
    base = make_base(tmp_path / "base", architecture)
    folders = [str(make_checkpoint(tmp_path / str(seed), base, seed, num_labels=seed + 2)) for seed in range(2)]
    found = fuse_checkpoints(folders, str(base))
    assert all(fused.checkpoint.stored is not None for fused in found.checkpoints)
    assert [fused.share for fused in found.checkpoints] == [0.5, 0.5]
