"""The training step and the score of each task that come before a run, with the rows that need most of the machine."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_models import make_base

from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.task import Examples, Task
from coldfusion_fl.errors import ErrorCode, MismatchError, ModelError
from coldfusion_fl.model.base import open_base
from coldfusion_fl.model.encoder import load_encoder
from coldfusion_fl.preflight import task_check
from coldfusion_fl.preflight.task_check import TaskChecker

SETTINGS = FinetuneSettings(batch_size=4, max_length=16)


def examples(texts, pairs=None):
    return Examples(list(texts), pairs, np.arange(len(texts), dtype=np.int64) % 2)


def task(texts=("a cat", "a dog and a cat", "food", "music") * 5, **changes):
    part = examples(texts)
    return replace(
        Task("pets", "accuracy", ("x", "y"), part, part.take(np.arange(4)), part.take(np.arange(4))), **changes
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return open_base(str(make_base(tmp_path_factory.mktemp("base") / "tiny")))


@pytest.fixture
def checker(base):
    return TaskChecker(base, load_encoder(base), SETTINGS)


def test_the_longest_texts_are_trained_on(checker):
    long_text = "a cat " * 40
    found = checker.check(task(("a cat",) * 30 + (long_text,)))
    assert (found.longest, found.rows) == (16, 4)  # max-length and batch-size


def test_a_task_that_needs_no_larger_batch_is_checked_with_two_rows(checker):
    assert checker.check(task()).rows == 4
    assert checker.check(task()).rows == 2
    assert checker.check(task(("a dog and a cat " * 3,) * 9)).rows == 4


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (MemoryError(), ErrorCode.MEMORY_SHORT),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
            ErrorCode.MEMORY_SHORT,
        ),
        (IndexError("index out of range in self"), ErrorCode.MODEL_UNSUPPORTED),
    ],
)
def test_a_failed_step_is_a_sentence_with_its_cause(checker, monkeypatch, failure, code):
    def fail(*args, **kwargs):
        raise failure

    monkeypatch.setattr(task_check, "finetune", fail)
    with pytest.raises(ModelError) as error:
        checker.check(task())
    assert error.value.code == code
    assert "finetune.max-length" in str(error.value)


def test_numbers_that_are_not_finite_are_an_error(checker, monkeypatch):
    monkeypatch.setattr(task_check, "predict", lambda *args: np.array([[np.nan, 1.0]]))
    with pytest.raises(MismatchError) as error:
        checker.check(task())
    assert error.value.code == ErrorCode.TRAINING_DIVERGED


def test_texts_that_the_tokenizer_does_not_know_are_noted(checker):
    assert checker.check(task()).notes == ()
    (note,) = checker.check(task(("🦖 🪿 🫎", "🫏 🪼 🦤") * 10)).notes
    assert "does not know" in note


def test_the_check_changes_no_weight_of_the_base(base, checker):
    before = {name: array.copy() for name, array in checker._encoder.items()}
    checker.check(task())
    assert all(np.array_equal(before[name], array) for name, array in checker._encoder.items())


def test_a_frozen_score_is_checked_without_a_training_step(base, monkeypatch):
    monkeypatch.setattr(task_check, "finetune", None)
    TaskChecker(base, load_encoder(base), SETTINGS, trains=False).check(task())
