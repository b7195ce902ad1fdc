"""The card of a classifier: its score with the rows and the interval, and no path of this machine."""

import dataclasses

import pytest
from huggingface_hub.repocard import ModelCard

from coldfusion_fl.classifier import TrainedClassifier
from coldfusion_fl.classifier.card import classifier_card
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.catalogue import TaskSpec
from coldfusion_fl.evaluation.intervals import proportion_interval
from coldfusion_fl.training.finetune import FinetuneResult


def trained(score, baseline=50.0, is_kept=False):
    result = FinetuneResult(loss=0.5, dev_score=50.0, examples=60, steps=9, seconds=1.0)
    return TrainedClassifier(None, "mean", is_kept, 60, result, score, baseline)


@pytest.mark.parametrize(("score", "is_noise"), [(54.0, True), (95.0, False)])
def test_a_score_beside_its_baseline(base, tiny_base, task, score, is_noise):
    card = classifier_card(base, "f00", task, trained(score), FinetuneSettings(), 0)
    low, high = proportion_interval(score, len(task.test))
    assert f"| this model | {score:.1f} | [{low:.1f}, {high:.1f}] |" in card
    assert ("The baseline is inside the interval: the score may be noise." in card) is is_noise
    assert f"`{tiny_base.name}`, a local folder" in card
    assert str(tiny_base.parent) not in card
    data = ModelCard(card).data
    (found,) = data.eval_results
    assert (found.metric_value, found.metric_args["test-rows"]) == (score, len(task.test))
    assert (data.pipeline_tag, data.base_model, data.datasets) == ("text-classification", None, None)


@pytest.mark.parametrize(("score", "is_below"), [(40.0, True), (50.0, True), (51.0, False)])
def test_a_score_that_is_not_above_the_baseline_is_said(base, task, score, is_below):
    card = classifier_card(base, "f00", task, trained(score), FinetuneSettings(), 0)
    assert ("**The score is not above the baseline" in card) is is_below


def test_the_card_says_whether_the_head_was_kept_and_trained_further(base, task):
    card = classifier_card(base, "f00", task, trained(95.0, is_kept=True), FinetuneSettings(), 7)
    assert "and the head that the task's contributor kept in the run, on 60 rows, in 9 steps, with the seed 7." in card
    as_kept = dataclasses.replace(trained(95.0, is_kept=True), result=None)
    assert "without further training." in classifier_card(base, "f00", task, as_kept, FinetuneSettings(), 7)


def test_the_card_says_whether_the_base_is_the_result_of_a_run(base, tiny_base, task):
    given = base, "f00", task, trained(95.0), FinetuneSettings(), 7
    name = f"`{tiny_base.name}`, a local folder (SHA-256 of its arrays: f00)"
    assert f"from {name}" in classifier_card(*given)
    assert f"from a fused base of a run that began with {name}" in classifier_card(*given, is_fused=True)


def test_a_model_and_a_data_set_of_the_hub_are_named(base, task, tmp_path):
    on_hub = dataclasses.replace(base, reference="acme/encoder@v2", folder=tmp_path / "snapshots" / ("c" * 40))
    spec = TaskSpec(hub="org/news", config="plain")
    card = classifier_card(on_hub, "f00", task, trained(95.0), FinetuneSettings(), 0, spec)
    data = ModelCard(card).data
    assert (data.base_model, data.datasets) == ("acme/encoder", ["org/news"])
    assert data.eval_results[0].dataset_config == "plain"
    assert "rows of `org/news` of the Hub" in card


def test_another_metric_has_no_interval(base, regression):
    card = classifier_card(base, "f00", regression, trained(40.0, 0.0), FinetuneSettings(), 0)
    assert "| this model | 40.0 |  |" in card
    assert "The score has no interval" in card


@pytest.mark.parametrize(
    ("points", "rows", "ends"), [(50, 100, (40.4, 59.6)), (100, 20, (83.9, 100.0)), (0, 20, (0.0, 16.1))]
)
def test_the_interval_of_an_accuracy(points, rows, ends):
    assert proportion_interval(points, rows) == pytest.approx(ends, abs=0.05)
