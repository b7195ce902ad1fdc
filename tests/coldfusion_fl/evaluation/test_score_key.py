"""The key of a score: each thing that the score depends on changes it, and nothing else does."""

import copy
import os
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from coldfusion_fl.config.settings import EvaluateSettings, FinetuneSettings
from coldfusion_fl.config.tables import dashed
from coldfusion_fl.data.task import Examples
from coldfusion_fl.evaluation import score_key
from coldfusion_fl.evaluation.score_key import UNUSED_EVALUATION, UNUSED_FINETUNING, hash_source, score_keys
from coldfusion_fl.evaluation.scores import score_and_predict
from coldfusion_fl.model.base import open_base

MODES = ("finetuned", "frozen", "few-shot")
FINETUNING = FinetuneSettings(learning_rate=3e-3, epochs=1, examples=40, dev_examples=10, max_length=16, patience=100)
EVALUATION = EvaluateSettings(train_examples=30, test_examples=20, shots=12, few_shot_epochs=2, few_shot_seeds=2)
SOURCE = {"a.py": "x = 1", "inner/b.py": "y = 2"}
# Another valid value of each setting.
OTHER_FINETUNING = {
    "learning_rate": 1e-3,
    "weight_decay": 0.5,
    "epochs": 2,
    "batch_size": 8,
    "examples": 39,
    "dev_examples": 5,
    "max_length": 9,
    "patience": 1.0,
    "head": "class-token",
    "keep_head": True,
    "freeze": "embeddings",
}
OTHER_EVALUATION = {
    "every": 3,
    "train_examples": 29,
    "test_examples": 19,
    "shots": 11,
    "few_shot_epochs": 1,
    "few_shot_seeds": 1,
}
SETTINGS = [
    *((FINETUNING, OTHER_FINETUNING, UNUSED_FINETUNING, name) for name in OTHER_FINETUNING),
    *((EVALUATION, OTHER_EVALUATION, UNUSED_EVALUATION, name) for name in OTHER_EVALUATION),
]


@pytest.fixture
def keys(base, encoder, task):
    """Makes the keys of the modes; what differs from the usual score is named."""

    def make(modes=MODES, base=base, encoder=encoder, task=task, finetuning=FINETUNING, settings=EVALUATION, seed=3):
        return score_keys(base, encoder, task, modes, finetuning, settings, seed)

    return make


def test_a_key_is_the_same_for_the_same_score_and_differs_by_mode(keys):
    assert keys() == keys()
    assert len(set(keys().values())) == 3
    assert all(len(key) == 64 for key in keys().values())
    assert keys(modes=["frozen"]) == {"frozen": keys()["frozen"]}


_IN_A_PROCESS = """
import sys
import torch
torch.set_num_threads(1)
from coldfusion_fl.config.settings import EvaluateSettings, FinetuneSettings
from coldfusion_fl.data.task import load_task
from coldfusion_fl.evaluation.score_key import score_keys
from coldfusion_fl.evaluation.scores import score_task
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder
base, task = open_base(sys.argv[1]), load_task("b", (sys.argv[2],))
encoder, given = load_encoder(base), (FinetuneSettings(), EvaluateSettings(), 3)
print(score_keys(base, encoder, task, ["frozen"], *given)["frozen"])
score_task(base, encoder, task, "frozen", *given)  # libraries that are imported now may set variables of their own
print(score_keys(base, encoder, task, ["frozen"], *given)["frozen"])
"""


def test_a_key_is_the_same_in_other_processes_and_with_a_copy_of_the_base(keys, tiny_base, toy_data, tmp_path):
    copied = tmp_path / "copy"
    copied.symlink_to(tiny_base)
    found = set()
    for folder in (tiny_base, copied):
        words = [sys.executable, "-P", "-c", _IN_A_PROCESS, str(folder), str(toy_data / "toy.toml")]
        found.update(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())
    assert found == {keys(["frozen"], finetuning=FinetuneSettings(), settings=EvaluateSettings())["frozen"]}


def test_earlier_calls_of_the_tokenizer_do_not_change_the_key(keys, tiny_base):
    fresh = open_base(str(tiny_base))
    before = keys(base=fresh)
    score_key._describe_tokenizer.cache_clear()
    fresh.tokenizer(["a cat", "a dog and a cat"], truncation=True, max_length=9, padding=True)
    assert keys(base=fresh) == before == keys()


def all_differ(one, other):
    return one.keys() == other.keys() and all(one[mode] != other[mode] for mode in one)


def test_each_array_of_the_encoder_changes_the_key(keys, encoder):
    name = sorted(encoder)[-1]
    nudged = encoder[name].copy()
    nudged.flat[0] = np.nextafter(nudged.flat[0], np.float32(9))
    for other in (
        {**encoder, name: nudged},
        {other: array for other, array in encoder.items() if other != name},
    ):
        assert all_differ(keys(), keys(encoder=other))


def test_the_configuration_and_the_tokenizer_of_the_base_change_the_key(keys, base):
    config = copy.deepcopy(base.config)
    config.hidden_dropout_prob = 0.3
    assert all_differ(keys(), keys(base=replace(base, config=config)))
    changes = [
        lambda tokenizer: tokenizer.add_tokens(["zebra"]),
        lambda tokenizer: setattr(tokenizer, "model_max_length", 7),
        lambda tokenizer: setattr(tokenizer, "truncation_side", "left"),
        lambda tokenizer: setattr(tokenizer, "padding_side", "left"),
        lambda tokenizer: setattr(tokenizer, "pad_token", "[MASK]"),
        lambda tokenizer: setattr(tokenizer, "model_input_names", ["input_ids"]),
    ]
    for change in changes:
        tokenizer = copy.deepcopy(base.tokenizer)
        change(tokenizer)
        assert all_differ(keys(), keys(base=replace(base, tokenizer=tokenizer)))


def test_a_tokenizer_in_python_has_no_keys(keys, base):
    class Tokenizer:
        pad_token_id = 0

    assert keys(base=replace(base, tokenizer=Tokenizer())) == {}


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_each_row_of_each_split_changes_the_key(keys, task, split):
    rows = getattr(task, split)
    last, first = [*rows.texts[:-1], "other"], [rows.texts[0] + "x", rows.texts[1][1:], *rows.texts[2:]]
    labels = rows.labels.copy()
    labels[-1] = (labels[-1] + 1) % 3
    others = [
        replace(rows, texts=last),
        replace(rows, texts=first),
        replace(rows, texts=["\ud800", *rows.texts[1:]]),
        replace(rows, pairs=rows.texts),
        replace(rows, pairs=[""] * len(rows)),
        replace(rows, labels=labels),
        replace(rows, labels=rows.labels.astype(np.float32)),
        rows.take(np.arange(len(rows))[::-1]),
        rows.take(np.arange(len(rows) - 1)),
    ]
    found = [keys(["frozen"], task=replace(task, **{split: other}))["frozen"] for other in (rows, *others)]
    assert len(set(found)) == len(found)
    assert found[0] == keys()["frozen"]


def test_rows_whose_texts_are_cut_elsewhere_have_another_key(keys, task):
    one, other = (Examples(texts, None, np.array([0, 1])) for texts in (["ab", "c"], ["a", "bc"]))
    assert all_differ(keys(task=replace(task, train=one)), keys(task=replace(task, train=other)))


def test_the_name_the_metric_and_the_classes_of_the_task_change_the_key(keys, task):
    for change in ({"name": "z"}, {"metric": "macro-f1"}, {"classes": task.classes[::-1]}, {"classes": None}):
        assert all_differ(keys(), keys(task=replace(task, **change)))


def test_every_setting_has_another_value_here():
    assert OTHER_FINETUNING.keys() == FinetuneSettings.model_fields.keys()
    assert OTHER_EVALUATION.keys() == EvaluateSettings.model_fields.keys()


@pytest.mark.parametrize(("given", "others", "unused", "name"), SETTINGS, ids=[name for *_, name in SETTINGS])
def test_a_setting_changes_the_keys_of_the_modes_that_read_it(keys, given, others, unused, name):
    changed = given.model_copy(update={name: others[name]})
    now = keys(**{"finetuning" if given is FINETUNING else "settings": changed})
    for mode, key in keys().items():
        assert (key == now[mode]) == (dashed(name) in unused[mode]), mode


@pytest.mark.parametrize("mode", MODES)
def test_settings_that_are_not_in_a_key_change_no_prediction(base, encoder, task, mode):
    def scored(finetuning, settings):
        score, predictions = score_and_predict(base, encoder, task, mode, finetuning, settings, 3)
        return score, predictions.predicted.tolist()

    unused = [name for name in OTHER_FINETUNING if dashed(name) in UNUSED_FINETUNING[mode]]
    finetuning = FINETUNING.model_copy(update={name: OTHER_FINETUNING[name] for name in unused})
    unused = [name for name in OTHER_EVALUATION if dashed(name) in UNUSED_EVALUATION[mode]]
    settings = EVALUATION.model_copy(update={name: OTHER_EVALUATION[name] for name in unused})
    assert scored(finetuning, settings) == scored(FINETUNING, EVALUATION)


def test_a_head_that_the_base_chooses_is_the_same_as_the_one_that_is_named(keys, base):
    named = FINETUNING.model_copy(update={"head": base.pooling})
    assert keys(finetuning=named) == keys()


def test_the_seed_changes_the_key(keys):
    assert all_differ(keys(), keys(seed=4))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("installed_versions", lambda: {"torch": "0.1"}),
        ("versions_of", lambda names: {"scipy": "0.1"}),
        ("_own_source", lambda: "another"),
        ("_describe_libraries", lambda: [{"version": "0.1"}]),
        ("_describe_hardware", lambda: {"processor": "another"}),
    ],
)
def test_the_software_and_the_machine_change_the_key(keys, monkeypatch, name, value):
    before = keys()
    monkeypatch.setattr(score_key, name, value)
    assert all_differ(before, keys())


def test_the_threads_of_the_process_change_the_key(keys, monkeypatch):
    before = keys()
    for name in ("OPENBLAS_NUM_THREADS", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "KMP_AFFINITY", "VECLIB_MAXIMUM_THREADS"):
        monkeypatch.setenv(name, "3")
        assert all_differ(before, keys()), name
        monkeypatch.delenv(name)
    assert keys() == before
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert all_differ(before, keys())


@pytest.fixture
def source(tmp_path):
    (tmp_path / "inner").mkdir()
    for name, content in SOURCE.items():
        (tmp_path / name).write_text(content)
    return tmp_path


def test_the_libraries_that_compute_are_described_without_their_places():
    described = score_key._describe_libraries()
    kinds = {library["user_api"] for library in described}
    assert kinds == {"blas", "openmp"}
    assert all(library["num_threads"] >= 1 for library in described)
    assert any(library.get("version") and library.get("threading_layer") for library in described)
    assert not any("filepath" in library for library in described)
    score_key._describe_libraries.cache_clear()
    assert score_key._describe_libraries() == described


def test_each_file_of_the_source_changes_its_hash(source):
    def found():
        return hash_source(source, time.time() + 60)

    hashes = [found()]
    (source / "note.txt").write_text("no code")
    (source / ".#a.py").symlink_to("user@host.1234:5678")  # a lock of Emacs
    assert found() == hashes[0]
    for name, content in SOURCE.items():
        (source / name).write_text(content + "0")
        hashes.append(found())
    (source / "a.py").rename(source / "c.py")
    hashes.append(found())
    assert len(set(hashes)) == 4
    assert all(len(one) == 64 for one in hashes)


def test_a_source_that_was_edited_after_it_was_loaded_has_no_hash(source):
    """The process works with the code that it has loaded, and not with that of the files."""
    loaded = time.time() + 0.1
    assert hash_source(source, loaded)
    time.sleep(0.2)
    (source / "a.py").write_text("x = 2")
    os.utime(source / "a.py", (0, 0))
    assert hash_source(source, loaded) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda folder: (folder / "c.py").symlink_to("missing.py"),
        lambda folder: (folder / "x.py").mkdir(),
        lambda folder: (folder / "b.py").symlink_to("b.py"),
    ],
    ids=["missing", "folder", "loop"],
)
def test_a_source_that_cannot_be_read_has_no_hash(source, spoil):
    spoil(source)
    assert hash_source(source, time.time() + 60) is None


def test_without_a_hash_of_the_source_there_are_no_keys(keys, monkeypatch):
    monkeypatch.setattr(score_key, "_own_source", lambda: None)
    assert keys() == {}
