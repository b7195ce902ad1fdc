"""The folder of a fused model holds the named files of the base's folder, and nothing else."""

import json
import os
import shutil
import socket
import stat

import pytest
from tiny_models import MINILM
from transformers import AutoModel, AutoTokenizer

from coldfusion_fl.data.paths import package_path
from coldfusion_fl.errors import ModelError
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder
from coldfusion_fl.model.export import check_export, read_licence, save_model

WRITTEN = {"config.json", "model.safetensors"}
CARRIED = {
    "vocab.txt",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "modules.json",
    "1_Pooling/config.json",
}
DENSE = [
    {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"},
    {"idx": 3, "name": "3", "path": "3_Normalize", "type": "sentence_transformers.models.Normalize"},
]


@pytest.fixture
def folder(tiny_base, tmp_path):
    """A copy of the tiny base that a test may change."""
    return shutil.copytree(tiny_base, tmp_path / "a base")


def export(folder):
    """The folder of a fused model of this base, and its files."""
    base = open_base(str(folder))
    check_export(base)
    out = folder.parent / "out"
    save_model(base, load_encoder(base), out)
    return out, {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}


def add_trainer_files(folder):
    (folder / "checkpoint-500").mkdir()
    (folder / "checkpoint-500" / "optimizer.pt").write_bytes(b"state")
    for name in ("optimizer.pt", "scheduler.pt", "trainer_state.json", "training_args.bin", "rng_state.pth"):
        (folder / name).write_bytes(b"state")
    (folder / "runs").mkdir()
    (folder / "runs" / "events.out.tfevents.1").write_bytes(b"log")


def add_other_formats(folder):
    for name in ("onnx/model.onnx", ".git/objects/pack", "data/train.parquet", "pytorch_model.bin", "tf_model.h5"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"large")


def add_adapter(folder):
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "x/y"}')


def add_code(folder):
    (folder / "modeling_mine.py").write_text("raise SystemExit")


def add_dangling_links(folder):
    (folder / "weights.old").symlink_to(folder / "nowhere")
    (folder / "NOTICE").symlink_to(folder / "nowhere")
    (folder / "1_Pooling" / "old").symlink_to("/nowhere")


def add_link_to_itself(folder):
    (folder / "itself").symlink_to(folder)
    (folder / "1_Pooling" / "up").symlink_to(folder)


def add_pipe_and_socket(folder):
    os.mkfifo(folder / "NOTICE")
    os.mkfifo(folder / "1_Pooling" / "pipe")
    here = os.getcwd()
    os.chdir(folder)  # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("LICENSE")
    os.chdir(here)


@pytest.mark.parametrize(
    "add",
    [
        add_trainer_files, add_other_formats, add_adapter, add_code, add_dangling_links, add_link_to_itself,
        add_pipe_and_socket,
    ],
)  # fmt: skip
def test_other_files_of_the_bases_folder_are_left_out(folder, add):
    add(folder)
    out, names = export(folder)
    assert names == WRITTEN | CARRIED
    assert open_base(str(out)).pooling == "mean"
    AutoModel.from_pretrained(out)


def test_a_base_without_write_permission_gives_a_folder_with_ordinary_modes(folder):
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        out, names = export(folder)
    finally:
        folder.chmod(0o755)
    mask = os.umask(0)
    os.umask(mask)
    assert {stat.S_IMODE((out / name).stat().st_mode) for name in names} == {0o666 & ~mask}
    assert stat.S_IMODE((out / "1_Pooling").stat().st_mode) == 0o777 & ~mask


def test_a_snapshot_of_the_hubs_cache_is_exported_without_links(folder, tmp_path):
    blobs, snapshot = tmp_path / "models--x" / "blobs", tmp_path / "models--x" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    for number, file in enumerate(path for path in folder.rglob("*") if path.is_file()):
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, blobs / str(number))
        link.symlink_to(os.path.relpath(blobs / str(number), link.parent))
    base = open_base(str(snapshot))
    check_export(base)
    save_model(base, load_encoder(base), tmp_path / "out")
    files = [path for path in (tmp_path / "out").rglob("*") if not path.is_dir()]
    assert {path.relative_to(tmp_path / "out").as_posix() for path in files} == WRITTEN | CARRIED
    assert not any(path.is_symlink() for path in files)


def test_the_modules_of_sentence_transformers_are_carried_over_with_their_weights(folder):
    (folder / "modules.json").write_text(json.dumps(DENSE))
    (folder / "2_Dense").mkdir()
    (folder / "2_Dense" / "model.safetensors").write_bytes(b"dense weights")
    (folder / "2_Dense" / "config.json").write_text("{}")
    for name in ("sentence_bert_config.json", "config_sentence_transformers.json"):
        (folder / name).write_text("{}")
    out, names = export(folder)
    more = {"2_Dense/model.safetensors", "2_Dense/config.json"}
    assert names == WRITTEN | CARRIED | more | {"sentence_bert_config.json", "config_sentence_transformers.json"}
    assert (out / "2_Dense" / "model.safetensors").read_bytes() == b"dense weights"


def test_the_real_small_model_keeps_all_of_sentence_transformers_files(tmp_path):
    base = open_base(MINILM)
    save_model(base, load_encoder(base), tmp_path / "out")
    for name in ("1_Pooling/config.json", "modules.json", "sentence_bert_config.json", "vocab.txt"):
        assert (tmp_path / "out" / name).read_bytes() == (package_path(MINILM) / name).read_bytes()
    assert read_licence(base.folder) == {"license": "apache-2.0"}


@pytest.mark.parametrize(
    ("modules", "fact"),
    [
        ("{", "cannot be read"),
        ("7", "not a list of modules"),
        ('{"path": "1_Pooling"}', "not a list of modules"),
        ('[{"path": "1_Pooling"}]', "not a list of modules"),
        (json.dumps([{"path": "../../etc", "type": "x.Dense"}]), "'../../etc' leads out"),
        (json.dumps([{"path": "/etc", "type": "x.Dense"}]), "'/etc' leads out"),
        (json.dumps([{"path": "a\0b", "type": "x.Dense"}]), "leads out"),
        (json.dumps([{"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]), "0_Transformer"),
    ],
)
def test_a_modules_file_that_cannot_be_followed_is_found_before_the_training(folder, modules, fact):
    (folder / "modules.json").write_text(modules)
    with pytest.raises(ModelError, match=fact):
        check_export(open_base(str(folder)))


@pytest.mark.parametrize("path", ["", ".", "./"])
def test_the_folder_itself_is_no_module_folder(folder, path):
    add_trainer_files(folder)
    (folder / "modules.json").write_text(json.dumps([{"path": path, "type": "x.Transformer"}]))
    assert export(folder)[1] == WRITTEN | CARRIED


def test_a_tokenizer_that_needs_other_files_is_found_before_the_training(folder):
    base = open_base(str(folder))
    for name in ("tokenizer.json", "vocab.txt"):
        (folder / name).rename(folder / f"other-{name}")
    with pytest.raises(ModelError):
        check_export(base)


def test_licence_and_notice_files_are_carried_over(folder):
    names = {"LICENSE", "LICENSE.txt", "NOTICE.md", "license-apache.txt", "COPYING"}
    for name in names:
        (folder / name).write_text(name)
    (folder / "licensed-data").mkdir()
    assert export(folder)[1] == WRITTEN | CARRIED | names


@pytest.mark.parametrize(
    ("readme", "licence"),
    [
        ("---\nlicense: mit\ntags: [x]\n---\n# A model", {"license": "mit"}),
        ("---\nlicense: [mit, apache-2.0]\n---\n", {"license": ["mit", "apache-2.0"]}),
        (
            "---\nlicense: other\nlicense_name: 'mine: 1'\nlicense_link: LICENSE\n---\n",
            {"license": "other", "license_name": "mine: 1", "license_link": "LICENSE"},
        ),
        ("---\nlicense: 7\n---\n", {}),
        ("---\nlicense: [[mit]]\n---\n", {}),
        ("---\nlicense: {\n---\n", {}),
        ("---\n- mit\n---\n", {}),
        ("no header", {}),
        (None, {}),
    ],
)
def test_the_licence_of_a_readme(tmp_path, readme, licence):
    if readme is not None:
        (tmp_path / "README.md").write_text(readme)
    assert read_licence(tmp_path) == licence


def test_a_readme_that_is_no_text_has_no_licence(tmp_path):
    (tmp_path / "README.md").write_bytes(b"\xff\xfe---")
    assert read_licence(tmp_path) == {}
    (tmp_path / "README.md").unlink()
    os.mkfifo(tmp_path / "README.md")
    assert read_licence(tmp_path) == {}


def test_a_fused_model_can_be_a_base(folder):
    out, names = export(folder)
    base = open_base(str(out))
    save_model(base, load_encoder(base), out.parent / "next")
    assert {p.relative_to(out.parent / "next").as_posix() for p in (out.parent / "next").rglob("*.*")} == names
    assert AutoTokenizer.from_pretrained(out.parent / "next")("cat")["input_ids"]
