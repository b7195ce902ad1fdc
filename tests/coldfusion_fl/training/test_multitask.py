from dataclasses import replace

import numpy as np
import pytest

from coldfusion_fl.config.settings import EvaluateSettings, FinetuneSettings
from coldfusion_fl.data.task import load_task
from coldfusion_fl.errors import ErrorCode, MismatchError
from coldfusion_fl.evaluation.scores import score_task
from coldfusion_fl.training.multitask import train_multitask

TUNING = FinetuneSettings(learning_rate=3e-3, batch_size=8, max_length=16)


@pytest.fixture(scope="module")
def tasks(toy_data):
    return [load_task(name, (str(toy_data / "toy.toml"),)) for name in "ab"]


def test_it_learns_what_its_tasks_have_in_common(base, encoder, tasks, toy_data):
    trained = train_multitask(base, encoder, tasks, TUNING, [480, 480], seed=1)
    unseen = load_task("u", (str(toy_data / "toy.toml"),))
    evaluation = EvaluateSettings(train_examples=12, test_examples=24)
    before, after = (
        score_task(base, arrays, unseen, "frozen", TUNING, evaluation, 0).value for arrays in (encoder, trained)
    )
    assert after > before


@pytest.mark.parametrize("head", ["mean", "class-token"])
def test_it_returns_the_same_encoder_for_the_same_seed(base, encoder, tasks, head):
    settings = TUNING.model_copy(update={"head": head})
    one, again, other = (train_multitask(base, encoder, tasks, settings, [32, 32], seed) for seed in (1, 1, 2))
    assert {name: array.shape for name, array in one.items()} == {n: array.shape for n, array in encoder.items()}
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def test_frozen_embeddings_stay_the_bases(base, encoder, tasks):
    settings = TUNING.model_copy(update={"freeze": "embeddings"})
    trained = train_multitask(base, encoder, tasks, settings, [32, 32], seed=1)
    changed = {name for name in encoder if not np.array_equal(trained[name], encoder[name])}
    assert "embeddings.word_embeddings.weight" not in changed and len(changed) > len(encoder) / 2


def test_the_unit_of_a_regression_does_not_matter(base, encoder, tasks, regression):
    far = replace(regression, train=replace(regression.train, labels=regression.train.labels * 1024))
    one, other = (train_multitask(base, encoder, [tasks[0], task], TUNING, [32, 32], 1) for task in (regression, far))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_each_task_uses_its_number_of_examples(base, encoder, tasks):
    reports = []
    train_multitask(
        base, encoder, tasks, TUNING, [40, 120], 1, lambda step, planned, _: reports.append((step, planned))
    )
    assert reports == [(step, 20) for step in range(1, 21)]  # 160 examples in batches of 8


def test_a_diverged_training_is_an_error(base, encoder, tasks):
    with pytest.raises(MismatchError) as error:
        train_multitask(base, encoder, tasks, TUNING.model_copy(update={"learning_rate": 1e30}), [32, 32], 1)
    assert error.value.code == ErrorCode.TRAINING_DIVERGED
