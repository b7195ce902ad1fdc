"""The test rows of shards, which are encoded once."""

from dataclasses import replace

import numpy as np
import pytest

from coldfusion_fl.config.settings import EvaluateSettings, FinetuneSettings
from coldfusion_fl.data.task import load_task
from coldfusion_fl.evaluation import scores
from coldfusion_fl.evaluation.scores import score_and_predict
from coldfusion_fl.evaluation.shared_features import SharedFeatures
from coldfusion_fl.model.base import open_base

FINETUNING = FinetuneSettings(epochs=1, max_length=16)
EVALUATION = EvaluateSettings(train_examples=15, test_examples=20)


@pytest.fixture(scope="module")
def shards(toy_data):
    catalogue = toy_data / "shards.toml"
    catalogue.write_text('[tasks.b]\nfolder = "b"\nshards = 3\n')
    return [load_task(f"b-{number}", (str(catalogue),)) for number in (1, 2, 3)]


@pytest.fixture
def encoded(monkeypatch):
    """The number of rows of each part that was encoded."""
    found, predict = [], scores._predict

    def counted(*given):
        found.append(len(given[3]))
        return predict(*given)

    monkeypatch.setattr(scores, "_predict", counted)
    monkeypatch.setattr(scores, "_TEST_FEATURES", SharedFeatures())
    return found


def frozen(base, encoder, task, finetuning=FINETUNING, settings=EVALUATION):
    score, predictions = score_and_predict(base, encoder, task, "frozen", finetuning, settings, 0)
    return score, predictions.predicted.tobytes(), predictions.labels.tobytes()


def test_the_test_rows_of_shards_are_encoded_once_and_the_scores_stay_the_same(
    base, encoder, shards, encoded, monkeypatch
):
    together = [frozen(base, encoder, shard) for shard in shards]
    assert encoded == [15, 20, 15, 15]
    for shard, expected in zip(shards, together, strict=True):
        monkeypatch.setattr(scores, "_TEST_FEATURES", SharedFeatures())
        assert frozen(base, encoder, shard) == expected
    assert [frozen(base, encoder, replace(shard, shards=1)) for shard in shards] == together
    assert encoded == [15, 20, 15, 15] + [15, 20] * 6
    assert len({predicted for _, predicted, _ in together}) > 1


def test_a_copy_of_the_arrays_is_the_same_base(base, encoder, shards, encoded):
    frozen(base, encoder, shards[0])
    frozen(base, {name: array.copy() for name, array in encoder.items()}, shards[1])
    assert encoded == [15, 20, 15]


def test_whatever_else_the_features_depend_on_has_them_computed(base, encoder, shards, encoded, tiny_base):
    name = sorted(encoder)[0]
    nudged = {**encoder, name: np.nextafter(encoder[name], np.float32(9))}
    other_rows = replace(shards[1], test=replace(shards[1].test, texts=[*shards[1].test.texts[:-1], "other"]))
    pairs = replace(shards[1], test=replace(shards[1].test, pairs=shards[1].test.texts))
    for changes in (
        {"encoder": nudged},
        {"base": open_base(str(tiny_base))},
        {"task": other_rows, "settings": EVALUATION.model_copy(update={"test_examples": 24})},
        {"task": pairs},
        {"finetuning": FINETUNING.model_copy(update={"head": "class-token"})},
        {"finetuning": FINETUNING.model_copy(update={"max_length": 8})},
        {"settings": EVALUATION.model_copy(update={"test_examples": 19})},
    ):
        frozen(base, encoder, shards[0])
        encoded.clear()
        frozen(**{"base": base, "encoder": encoder, "task": shards[1], **changes})
        assert len(encoded) == 2, changes.keys()


def test_other_labels_have_the_same_features(base, encoder, shards, encoded):
    labels = shards[1].test.labels[::-1].copy()
    frozen(base, encoder, shards[0])
    frozen(base, encoder, replace(shards[1], test=replace(shards[1].test, labels=labels)))
    assert encoded == [15, 20, 15]


def test_a_task_that_is_no_shard_keeps_nothing(base, encoder, task, encoded):
    frozen(base, encoder, task)
    assert scores._TEST_FEATURES._last is None


def test_another_thread_that_encodes_meanwhile_does_not_disturb(base, encoder, shards):
    """Between two reads of what is kept, the other thread replaces it."""

    class Shared(SharedFeatures):
        def __setattr__(self, name, value):
            vars(self)["replaced"] = [value]

        def __getattr__(self, name):
            kept = vars(self)["replaced"]
            return kept.pop() if kept else (base, ("another",), np.ones(1))

    shared = Shared()
    given = base, encoder, shards[0].test, "mean", 16
    first = shared.encode(*given, lambda: np.zeros(3))
    assert shared.encode(*given, lambda: np.zeros(4)) is first
