"""Models compared on the same rows: scores, differences, heads, and what cannot be compared."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_models import make_base

from coldfusion_fl.config.settings import EvaluateSettings, FinetuneSettings
from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.evaluation.bootstrap import difference_error
from coldfusion_fl.evaluation.comparison import LoadedModel, choose_common_head, compare, load_models
from coldfusion_fl.evaluation.scores import score_and_predict
from coldfusion_fl.model.base import open_base

FINETUNING = FinetuneSettings(learning_rate=3e-3, epochs=1, examples=30, max_length=16)
EVALUATION = EvaluateSettings(train_examples=30, test_examples=20, shots=12, few_shot_epochs=1, few_shot_seeds=2)
SETTINGS = (FINETUNING, EVALUATION)


@pytest.fixture(scope="module")
def models(base, encoder):
    """The tiny base, and two models whose weights are more and more random."""
    noise = np.random.default_rng(0)

    def disturb(array, scale):
        return array + scale * noise.normal(size=array.shape).astype(array.dtype)

    others = [{name: disturb(array, scale) for name, array in encoder.items()} for scale in (0.1, 0.5)]
    named = [replace(base, reference=f"noise-{number}") for number in (1, 2)]
    return [
        LoadedModel(base, encoder, "a hash"),
        *(LoadedModel(base, other, base.reference) for base, other in zip(named, others, strict=True)),
    ]


@pytest.mark.parametrize("mode", ["frozen", "few-shot", "finetuned"])
def test_the_scores_are_those_that_each_model_has_alone(models, task, mode):
    found = compare(models, [task], mode, *SETTINGS, seed=3)
    alone = [score_and_predict(model.base, model.encoder, task, mode, *SETTINGS, seed=3) for model in models]
    assert found.tasks[0].scores == tuple(score.value for score, _ in alone)
    assert {score.test_rows_hash for score, _ in alone} == {found.tasks[0].test_rows_hash}
    (_, before), *others = alone
    assert [one.model for one in found.differences] == ["noise-1", "noise-2"]
    for one, (score, after) in zip(found.differences, others, strict=True):
        assert one.difference == score.value - alone[0][0].value
        error = difference_error(task.metric, before.labels, before.predicted, after.predicted)
        assert (one.low, one.high) == pytest.approx((one.difference - 1.96 * error, one.difference + 1.96 * error))


def test_the_baseline_is_on_the_rows_that_are_scored(models, task):
    rows = task.test.draw(EVALUATION.test_examples, [0]).labels
    expected = 100 * np.mean(rows == np.bincount(task.train.labels).argmax())
    found = compare(models[:2], [task], "frozen", *SETTINGS, seed=0)
    assert found.tasks[0].baseline == pytest.approx(expected)
    assert expected != pytest.approx(task.baseline())
    assert (found.tasks[0].test_examples, found.tasks[0].test_split) == (20, len(task.test))


def test_with_the_other_model_as_reference_the_differences_have_the_other_sign(models, task, regression):
    forth, back = (
        compare(pair, [task, regression], "frozen", *SETTINGS, seed=0) for pair in (models[:2], models[1::-1])
    )
    for one, other in zip(forth.differences, back.differences, strict=True):
        assert one.difference == -other.difference
        assert (one.low, one.high) == pytest.approx((-other.high, -other.low))


@pytest.mark.parametrize("mode", ["frozen", "few-shot"])
def test_a_model_does_not_differ_from_itself(models, task, regression, mode):
    twice = [models[0], replace(models[0], hash="not compared")]
    for one in compare(twice, [task, regression], mode, *SETTINGS, seed=0).differences:
        assert (one.difference, one.low, one.high) == (0, 0, 0)
        assert (one.outcome, one.rows_needed) == ("same", None)


def test_several_tasks_have_a_mean_for_each_model(models, task, regression):
    steps = []
    found = compare(models, [task, regression], "frozen", *SETTINGS, seed=0, on_step=steps.append)
    assert [(one.model, one.task) for one in found.differences] == [
        (model, name) for model in ("noise-1", "noise-2") for name in (task.name, regression.name, None)
    ]
    on_task, on_regression, mean = found.differences[:3]
    assert mean.difference == pytest.approx((on_task.difference + on_regression.difference) / 2)
    assert mean.test_examples == on_task.test_examples + on_regression.test_examples
    assert found.means.scores == pytest.approx(np.mean([task.scores for task in found.tasks], axis=0))
    assert [(step.number, step.total) for step in steps] == [(number, 6) for number in range(1, 7)]
    assert [step.task for step in steps] == 3 * [task.name] + 3 * [regression.name]
    assert [step.model for step in steps] == 2 * [model.model for model in found.models]


def test_tasks_with_the_same_test_rows_are_not_independent(models, task, regression):
    shards = [task, replace(task, name="another shard")]
    *each, mean = compare(models[:2], shards, "frozen", *SETTINGS, seed=0).differences
    assert mean.high - mean.low == pytest.approx(sum(one.high - one.low for one in each) / 2)
    assert mean.test_examples == each[0].test_examples
    *each, mean = compare(models[:2], [task, regression], "frozen", *SETTINGS, seed=0).differences
    assert mean.high - mean.low < sum(one.high - one.low for one in each) / 2


def test_all_models_get_the_head_of_the_reference(models, task):
    one, other = models[0], replace(models[1], base=replace(models[1].base, pooling="class-token"))
    found = compare([one, other], [task], "frozen", *SETTINGS, seed=0)
    assert found.head == "mean"
    assert any("noise-1" in note for note in found.notes)
    assert found.tasks[0].scores == compare(models[:2], [task], "frozen", *SETTINGS, seed=0).tasks[0].scores
    assert compare([other, one], [task], "frozen", *SETTINGS, seed=0).head == "class-token"
    assert choose_common_head([one, other], "class-token") == ("class-token", ())
    assert choose_common_head(models, "auto") == ("mean", ())


def test_models_may_have_other_architectures(base, task, tmp_path):
    other = open_base(str(make_base(tmp_path / "distil", "distilbert")))
    found = compare(load_models([base, other]), [task], "frozen", *SETTINGS, seed=0)
    assert len(found.tasks[0].scores) == 2
    assert [len(model.hash) for model in found.models] == [64, 64]


def test_what_limits_a_comparison_is_noted(models, task):
    constant = replace(models[1], encoder={name: 0 * array for name, array in models[1].encoder.items()}, hash="1")
    zero = replace(constant, hash="2", base=replace(constant.base, reference="zero"))
    few, weak = compare([constant, zero], [task], "frozen", *SETTINGS, seed=0).notes[::-1]
    assert task.name in few
    assert task.name in weak
    assert "baseline" in weak


def test_what_cannot_be_compared(base, models, task):
    for refused in (models[:1], [], [models[0], models[0]]):
        with pytest.raises(SettingsError):
            compare(refused, [task], "frozen", *SETTINGS, seed=0)
    for tasks, mode in (([], "frozen"), ([task], "warm")):
        with pytest.raises(SettingsError):
            compare(models, tasks, mode, *SETTINGS, seed=0)
    with pytest.raises(SettingsError) as error:
        load_models([base, replace(base, reference="the same elsewhere")])
    assert error.value.code == ErrorCode.SETTINGS_CONFLICT
    assert base.reference in str(error.value)
    assert "the same elsewhere" in str(error.value)
