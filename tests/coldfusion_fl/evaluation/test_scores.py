"""Finetuned, frozen and few-shot scores."""

from dataclasses import replace

import numpy as np
import pytest

from coldfusion_fl.config.settings import EvaluateSettings, FinetuneSettings
from coldfusion_fl.data.task import Examples
from coldfusion_fl.errors import ErrorCode, MismatchError, SettingsError
from coldfusion_fl.evaluation.scores import _Features, draw_shots, hash_rows, score_task
from coldfusion_fl.model.encoder import build_model, merge

FINETUNING = FinetuneSettings(learning_rate=3e-3, epochs=2, examples=0, max_length=16, patience=100)
EVALUATION = EvaluateSettings(train_examples=60, test_examples=24, shots=30, few_shot_epochs=4, few_shot_seeds=2)


def test_frozen_and_few_shot_scores(base, encoder, task):
    frozen = score_task(base, encoder, task, "frozen", FINETUNING, EVALUATION, seed=0)
    assert frozen.value > task.baseline()
    assert frozen == score_task(base, encoder, task, "frozen", FINETUNING, EVALUATION, seed=0)
    few = score_task(base, encoder, task, "few-shot", FINETUNING, EVALUATION, seed=0)
    assert few.train_examples == 30
    with pytest.raises(SettingsError) as error:
        score_task(base, encoder, task, "few-shot", FINETUNING, EVALUATION.model_copy(update={"shots": 0}), seed=0)
    assert "evaluate.shots" in str(error.value)
    class_token = FINETUNING.model_copy(update={"head": "class-token"})
    assert score_task(base, encoder, task, "frozen", class_token, EVALUATION, seed=0).head == "class-token"


@pytest.mark.parametrize("rows", [2, 3, 5])
def test_a_frozen_score_of_few_rows(base, encoder, task, regression, rows):
    for scored_task in (task, regression):
        few = EVALUATION.model_copy(update={"train_examples": rows})
        score = score_task(base, encoder, scored_task, "frozen", FINETUNING, few, seed=0)
        assert score.train_examples == rows
        assert -100 <= score.value <= 100


def test_a_frozen_score_of_a_single_class(base, encoder, task):
    single_class = replace(task, train=task.train.take(np.flatnonzero(task.train.labels == 1)))
    assert score_task(base, encoder, single_class, "frozen", FINETUNING, EVALUATION, seed=0).value == pytest.approx(
        100 / 3
    )


def test_shots_have_every_class(task):
    for seed in range(20):
        assert set(draw_shots(task, 3, seed).labels) == {0, 1, 2}
    assert draw_shots(task, 10, 0).texts == draw_shots(task, 10, 0).texts
    assert len(set(draw_shots(task, 20, 0).texts)) == 20


def test_a_class_token_without_a_pretrained_pooler_is_not_pooled(base, encoder, task):
    """A randomly initialised pooler would make the score depend on its seed."""
    without_pooler = {name: array for name, array in encoder.items() if not name.startswith("pooler.")}
    class_token = FINETUNING.model_copy(update={"head": "class-token"})
    assert score_task(base, without_pooler, task, "frozen", class_token, EVALUATION, seed=0).value >= 0
    model = build_model(base, task.num_labels, "class-token", 0)
    merge(model, without_pooler)
    batch = base.tokenizer(["a cat"], return_tensors="pt")
    features = _Features(model.bert, "class-token", has_pooler=False).eval()(**batch)["logits"]
    assert features.equal(model.bert.eval()(**batch).last_hidden_state[:, 0])


@pytest.mark.parametrize("mode", ["frozen", "few-shot", "finetuned"])
@pytest.mark.parametrize("head", ["mean", "class-token"])
def test_outputs_that_are_not_numbers_have_no_score(base, encoder, task, regression, mode, head):
    """Finite weights can give them too, where numbers overflow on the way."""
    huge = {name: array * np.float32(1e30) for name, array in encoder.items()}
    schedule = FINETUNING.model_copy(update={"head": head})
    for scored_task in (task, regression):
        with pytest.raises(MismatchError, match="not numbers") as error:
            score_task(base, huge, scored_task, mode, schedule, EVALUATION, seed=0)
        assert error.value.code == ErrorCode.TRAINING_DIVERGED


def test_the_hash_of_the_test_rows(base, encoder, task):
    few = EVALUATION.model_copy(update={"test_examples": 5})
    one = score_task(base, encoder, task, "frozen", FINETUNING, few, seed=0)
    assert one.test_rows_hash == hash_rows(task, task.test.draw(5, [0]))
    assert len(one.test_rows_hash) == 12
    assert one.test_rows_hash == score_task(base, encoder, task, "few-shot", FINETUNING, few, seed=7).test_rows_hash


def test_rows_with_another_text_pair_label_or_order_have_another_hash(task, regression):
    rows = Examples(["a", "b"], ["c", "d"], np.array([0, 1]))
    others = [
        rows.take(np.array([1, 0])),
        rows.take(np.array([0])),
        replace(rows, texts=["a", "B"]),
        replace(rows, texts=["ab", ""]),
        replace(rows, pairs=None),
        replace(rows, pairs=["d", "c"]),
        replace(rows, labels=np.array([0, 2])),
        replace(rows, texts=["a", "\ud800"]),
    ]
    hashes = [hash_rows(task, rows), *(hash_rows(task, other) for other in others)]
    assert len(set(hashes)) == len(hashes)
    assert hash_rows(replace(task, classes=("x", "y")), rows) != hash_rows(task, rows)
    numbers = replace(rows, labels=np.array([0.5, 1.0], np.float32))
    assert hash_rows(regression, numbers) == hash_rows(regression, replace(numbers, labels=numbers.labels.copy()))
