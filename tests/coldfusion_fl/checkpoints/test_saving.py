"""The folder of fused checkpoints: it loads like the base, and says how it was made; nothing is left of a failure."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub.repocard import metadata_load
from transformers import AutoModel, AutoTokenizer

from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.checkpoints import saving
from coldfusion_fl.checkpoints.card import model_card, other_licences
from coldfusion_fl.checkpoints.fusing import fuse_checkpoints
from coldfusion_fl.checkpoints.saving import save_fusion
from coldfusion_fl.errors import ErrorCode, RunFolderError, SettingsError
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder


@pytest.fixture
def fused(three, tiny_base):
    return fuse_checkpoints(three, str(tiny_base))


def add_licence(folder, name):
    (folder / "README.md").write_text(f"---\nlicense: {name}\n---\n")


def test_the_folder_loads_like_the_base(fused, tmp_path):
    out = tmp_path / "out"
    save_fusion(fused, out)
    assert encoder_hash(load_encoder(open_base(str(out)))) == fused.sha256
    assert AutoModel.from_pretrained(out).config.num_hidden_layers == 2
    assert AutoTokenizer.from_pretrained(out)("a cat")["input_ids"]
    assert (out / "1_Pooling" / "config.json").is_file()


def test_the_card_and_the_file_name_every_checkpoint(fused, three, tiny_base, tmp_path):
    save_fusion(fused, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    facts = json.loads((tmp_path / "out" / "fusion.json").read_text())
    assert [one["reference"] for one in facts["checkpoints"]] == three
    for one, outcome in zip(facts["checkpoints"], fused.checkpoints, strict=True):
        assert one["sha256"] == outcome.sha256
        assert one["sha256"] in card
        assert f"`{Path(one['reference']).name}`" in card
    assert facts["base"] == {"reference": str(tiny_base), "sha256": fused.base_sha256, "licence": ""}
    assert (facts["fusion"], facts["server-optimizer"], facts["screening"]) == ("mean", "plain", [])
    assert facts["sha256"] == fused.sha256
    assert facts["versions"]["torch"]
    assert metadata_load(tmp_path / "out" / "README.md")["tags"] == ["cold-fusion", "model-merging", "merge"]
    assert "/tmp" not in card
    assert str(tmp_path) not in card
    assert "The licence of the base is not known." in card


def test_the_card_says_why_a_checkpoint_was_rejected(checkpoint, three, tiny_base, tmp_path):
    found = fuse_checkpoints([*three, checkpoint("loud", size=1.0)], str(tiny_base), screening="size")
    save_fusion(found, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    assert "3 finetuned checkpoints" in card
    assert "rejected by size: its update is too large" in card


def test_licences(checkpoint, tiny_base, tmp_path):
    base = shutil.copytree(tiny_base, tmp_path / "base")
    add_licence(base, "apache-2.0")
    same, other = checkpoint("same"), checkpoint("other", seed=1)
    add_licence(tmp_path / "same", "apache-2.0")
    found = fuse_checkpoints([same, other], str(base))
    assert not other_licences(found)
    assert metadata_load_of(found)["license"] == "apache-2.0"
    add_licence(tmp_path / "other", "cc-by-nc-4.0")
    found = fuse_checkpoints([same, other], str(base))
    assert other_licences(found) == [f"{other}: cc-by-nc-4.0"]
    assert "license" not in metadata_load_of(found)
    assert "their terms count too" in model_card(found)


def metadata_load_of(found):
    import yaml

    return yaml.safe_load(model_card(found).split("---")[1])


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_of_a_failure(fused, tmp_path, monkeypatch, failure):
    def fail(found):
        raise failure

    monkeypatch.setattr(saving, "model_card", fail)  # after the weights
    with pytest.raises(RunFolderError if isinstance(failure, OSError) else KeyboardInterrupt) as error:
        save_fusion(fused, tmp_path / "out")
    assert not list(tmp_path.iterdir())
    if isinstance(failure, OSError):
        assert error.value.code == ErrorCode.DISK_FULL
        assert "No space left on device" in str(error.value)


def test_a_folder_that_exists_stays_as_it_is(fused, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(SettingsError, match="out exists already"):
        save_fusion(fused, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_the_parent_must_exist(fused, tmp_path):
    with pytest.raises(SettingsError, match="does not exist. Create it first"):
        save_fusion(fused, tmp_path / "no" / "out")
