"""A model folder of another party may have links; none of them leads out of the folder."""

import json
import os
import shutil

import pytest
from tiny_models import edit_json, make_base, make_checkpoint

from coldfusion_fl.checkpoints.fusing import fuse_checkpoints
from coldfusion_fl.classifier import open_classifier
from coldfusion_fl.errors import ErrorCode, ModelError
from coldfusion_fl.model.base import open_base, open_folder
from coldfusion_fl.model.encoder import load_encoder
from coldfusion_fl.model.export import check_export, save_model
from coldfusion_fl.publishing.source import open_source

SECRET = "the content of a file outside"


@pytest.fixture
def folder(tmp_path):
    made = make_base(tmp_path / "base")
    (made / "README.md").write_text("---\nlicense: mit\n---\n")
    return made


@pytest.fixture
def outside(tmp_path):
    """A folder and a file of this machine that a stranger may want."""
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "config.json").write_text(json.dumps({"secret": SECRET}))
    (tmp_path / "private" / "key").write_text(SECRET)
    return tmp_path / "private"


LINKS = {
    "config.json": "config.json",
    "model.safetensors": "key",
    "LICENSE": "key",
    "README.md": "key",
    "chat_template.jinja": "key",
    "1_Pooling": "",
    "1_Pooling/config.json": "config.json",
    "2_Dense/deep/config.json": "config.json",
    "unknown.txt": "key",
}


def put_link(folder, name, target):
    link = folder / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(target)


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("name", LINKS)
def test_a_link_that_leads_out_is_named_and_not_followed(folder, outside, name, relative):
    target = outside / LINKS[name]
    put_link(folder, name, os.path.relpath(target, (folder / name).parent) if relative else target)
    with pytest.raises(ModelError) as error:
        open_base(str(folder))
    assert error.value.code == ErrorCode.MODEL_LINK
    assert f"{name} is a link to " in str(error.value)
    assert SECRET not in str(error.value)


def test_a_link_over_a_link_inside_is_found(folder, outside):
    put_link(folder, "inner", outside)
    put_link(folder, "NOTICE", "inner/key")
    with pytest.raises(ModelError, match="is a link to"):
        open_base(str(folder))


def test_links_inside_the_folder_and_a_link_to_the_folder_itself_work(folder, tmp_path):
    (folder / "weights").mkdir()
    (folder / "model.safetensors").rename(folder / "weights" / "encoder.safetensors")
    put_link(folder, "model.safetensors", "weights/encoder.safetensors")
    (tmp_path / "link").symlink_to(folder)
    base = open_base(str(tmp_path / "link"))
    check_export(base)
    save_model(base, load_encoder(base), tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    "use",
    [
        lambda path, base: open_classifier(path),
        lambda path, base: fuse_checkpoints([path, path], str(base)),
        lambda path, base: open_source(base.parent / "other"),
    ],
    ids=["predict", "fuse", "push"],
)
def test_each_command_that_reads_a_model_folder_checks_its_links(tiny_base, tmp_path, outside, use):
    made = make_checkpoint(tmp_path / "other", tiny_base, 1)
    put_link(made, "1_Pooling/config.json", outside / "config.json")
    shutil.copytree(tiny_base, tmp_path / "base")
    with pytest.raises(ModelError) as error:
        use(str(made), tmp_path / "base")
    assert error.value.code == ErrorCode.MODEL_LINK


def test_a_link_that_appears_after_the_base_was_opened_is_not_copied(folder, outside, tmp_path):
    base = open_base(str(folder))
    encoder = load_encoder(base)
    put_link(folder, "LICENSE", outside / "key")
    with pytest.raises(ModelError) as error:
        save_model(base, encoder, tmp_path / "out")
    assert error.value.code == ErrorCode.MODEL_LINK
    assert not (tmp_path / "out" / "LICENSE").exists()


def test_the_model_of_a_run_folder_is_in_it(folder, outside, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text("{}")
    (run / "model").symlink_to(folder)
    with pytest.raises(ModelError) as error:
        open_folder(str(run))
    assert error.value.code == ErrorCode.MODEL_LINK


def make_snapshot(folder, place):
    """The same files as a snapshot of the Hub's cache: links into the folder of the blobs."""
    blobs, snapshot = place / "blobs", place / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    for number, file in enumerate(path for path in folder.rglob("*") if path.is_file()):
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blobs / str(number))
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    return snapshot


def test_a_snapshot_of_the_hub_may_link_to_its_own_blobs_alone(folder, outside, tmp_path):
    snapshot = make_snapshot(folder, tmp_path / "models--x")
    assert open_base(str(snapshot)).commit == "abc"
    put_link(snapshot, "LICENSE", outside / "key")
    with pytest.raises(ModelError, match="LICENSE is a link to"):
        open_base(str(snapshot))


def test_a_folder_that_imitates_a_snapshot_gains_nothing(folder, outside, tmp_path):
    snapshot = tmp_path / "other" / "snapshots" / "abc"
    shutil.copytree(folder, snapshot)
    (tmp_path / "other" / "blobs").symlink_to(outside)
    put_link(snapshot, "LICENSE", "../../blobs/key")
    with pytest.raises(ModelError, match="LICENSE is a link to"):
        open_base(str(snapshot))


@pytest.mark.parametrize("name", ["../private/model.safetensors", "/etc/passwd", "a/../../x.safetensors"])
def test_an_index_of_weights_names_files_of_the_folder_alone(folder, outside, name):
    shutil.copy(folder / "model.safetensors", outside / "model.safetensors")
    (folder / "model.safetensors").unlink()
    edit_json(folder / "model.safetensors.index.json", weight_map={"w": name}, metadata={})
    with pytest.raises(ModelError, match="does not list the files of the weights"):
        open_base(str(folder))


@pytest.mark.parametrize("path", ["../private", "/etc", "x/../../private"])
def test_a_module_is_in_the_folder(folder, outside, path):
    pooling = {"idx": 1, "name": "1", "path": path, "type": "sentence_transformers.models.Pooling"}
    (folder / "modules.json").write_text(json.dumps([pooling]))
    with pytest.raises(ModelError, match="leads out of the model folder"):
        check_export(open_base(str(folder)))
