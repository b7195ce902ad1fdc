"""The head of a base follows the pooling that its folder names; every guess is a note."""

import json

import pytest
from tiny_models import edit_json, make_base
from transformers import BertConfig, ModernBertConfig

from coldfusion_fl.errors import ModelError
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.pooling import read_pooling

TRANSFORMER = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
POOLING = {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}
# The class as sentence-transformers 5.4 writes it.
NEW_POOLING = POOLING | {"type": "sentence_transformers.sentence_transformer.modules.pooling.Pooling"}
DENSE = {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}
FLAGS = {"word_embedding_dimension": 32, "pooling_mode_cls_token": False, "pooling_mode_mean_tokens": False}


def write(folder, config, path="1_Pooling", modules=None):
    (folder / path).mkdir(parents=True)
    (folder / path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if modules is not None:
        (folder / "modules.json").write_text(modules if isinstance(modules, str) else json.dumps(modules))
    return folder


@pytest.mark.parametrize(
    ("config", "head"),
    [
        (FLAGS | {"pooling_mode_mean_tokens": True}, "mean"),
        (FLAGS | {"pooling_mode_cls_token": True}, "class-token"),
        ({"pooling_mode_mean_tokens": True}, "mean"),
        ({"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": True}, "mean"),
        ({"embedding_dimension": 32, "pooling_mode": "cls", "include_prompt": True}, "class-token"),
        ({"pooling_mode": ["mean"]}, "mean"),
        ({"pooling_mode": "MEAN"}, "mean"),
        ({"pooling_mode": "mean", "pooling_mode_cls_token": True}, "mean"),
        ({"word_embedding_dimension": 32}, "mean"),  # the default of sentence-transformers
    ],
)
def test_a_pooling_that_a_head_can_read_gives_that_head_without_a_note(tmp_path, config, head):
    assert read_pooling(write(tmp_path, config), BertConfig(architectures=["BertModel"])) == (head, ())


@pytest.mark.parametrize(
    ("config", "head", "named"),
    [
        (FLAGS | {"pooling_mode_max_tokens": True}, "mean", "max"),
        (FLAGS | {"pooling_mode_mean_sqrt_len_tokens": True}, "mean", "mean_sqrt_len_tokens"),
        (FLAGS | {"pooling_mode_weightedmean_tokens": True}, "mean", "weightedmean"),
        (FLAGS | {"pooling_mode_lasttoken": True}, "mean", "lasttoken"),
        (FLAGS | {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, "class-token", "cls+max"),
        ({"pooling_mode": "lasttoken"}, "mean", "lasttoken"),
        ({"pooling_mode": ["cls", "mean"]}, "mean", "cls+mean"),
        ({"pooling_mode": "attention"}, "mean", "attention"),
        (FLAGS, "class-token", "no pooling"),
    ],
)
def test_a_pooling_that_no_head_can_read_is_named_with_the_head_that_is_used(tmp_path, config, head, named):
    found, notes = read_pooling(write(tmp_path, config), BertConfig())
    assert found == head
    assert [named in note and "1_Pooling" in note and head.replace("-", " ") in note for note in notes] == [True]


@pytest.mark.parametrize("pooling", [POOLING, NEW_POOLING])
def test_modules_json_names_the_folder_of_the_pooling(tmp_path, pooling):
    modules = [TRANSFORMER, pooling | {"path": "3_Pool"}]
    assert read_pooling(write(tmp_path, {"pooling_mode": "mean"}, "3_Pool", modules), BertConfig()) == ("mean", ())


@pytest.mark.parametrize("path", ["../outside", "/outside"])
def test_a_pooling_outside_of_the_folder_is_not_read(tmp_path, path):
    write(tmp_path, {"pooling_mode": "mean"}, "outside")
    modules = [TRANSFORMER, POOLING | {"path": path.replace("/outside", str(tmp_path / "outside"), path[0] == "/")}]
    folder = write(tmp_path / "base", {"pooling_mode": "cls"}, modules=modules)
    assert read_pooling(folder, BertConfig()) == ("class-token", ())


def test_other_modules_are_noted(tmp_path):
    head, notes = read_pooling(
        write(tmp_path, {"pooling_mode": "cls"}, modules=[TRANSFORMER, POOLING, DENSE]), BertConfig()
    )
    assert head == "class-token"
    assert ["Dense" in note for note in notes] == [True]


@pytest.mark.parametrize(
    ("architectures", "file", "is_suspect"),
    [
        (["BertModel"], None, True),  # as a Trainer saves a sentence-embedding model
        (["BertForMaskedLM"], "modules.json", True),
        ([], "config_sentence_transformers.json", True),
        (["BertForMaskedLM"], None, False),
        (["RobertaForMaskedLM"], None, False),
        ([], None, False),
    ],
)
def test_without_a_pooling_a_note_says_what_the_head_reads(tmp_path, architectures, file, is_suspect):
    if file:
        (tmp_path / file).write_text("[]")
    head, notes = read_pooling(tmp_path, BertConfig(architectures=architectures))
    assert head == "class-token"
    assert len(notes) == 1 and "class token" in notes[0]
    assert ('finetune.head = "mean"' in notes[0]) is is_suspect


def test_a_pooling_of_the_models_own_head_is_noted(tmp_path):
    head, notes = read_pooling(tmp_path, ModernBertConfig(classifier_pooling="mean"))
    assert head == "class-token"
    assert ["classifier_pooling" in note and 'head = "mean"' in note for note in notes] == [True]


@pytest.mark.parametrize(
    ("config", "modules"),
    [
        ("{", None),
        ("[]", None),
        ('"mean"', None),
        ({"pooling_mode": 3}, None),
        ({"pooling_mode": [1]}, None),
        ({"pooling_mode": "mean"}, "{"),
        ({"pooling_mode": "mean"}, '{"type": 1}'),
        ({"pooling_mode": "mean"}, "[{}]"),
        ({"pooling_mode": "mean"}, "3"),
    ],
)
def test_a_file_that_names_no_pooling_is_an_error(tmp_path, config, modules):
    with pytest.raises(ModelError, match=r"modules\.json" if modules else r"1_Pooling.config\.json"):
        read_pooling(write(tmp_path, config, modules=modules), BertConfig())


def test_a_base_has_the_head_and_the_notes(tmp_path):
    folder = make_base(tmp_path / "base")
    assert open_base(str(folder)).choose_head("auto") == "class-token"
    assert any("finetune.head" in note for note in open_base(str(folder)).notes)
    (folder / "1_Pooling").mkdir()
    edit_json(folder / "1_Pooling" / "config.json", pooling_mode="mean")
    assert open_base(str(folder)).choose_head("auto") == "mean"
    assert open_base(str(folder)).notes == ()
