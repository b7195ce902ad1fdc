import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import DataCollatorWithPadding

from coldfusion_fl.config.settings import EvaluateSettings, FinetuneSettings
from coldfusion_fl.data.task import Examples
from coldfusion_fl.evaluation.scores import score_task
from coldfusion_fl.model.encoder import build_model, merge, split
from coldfusion_fl.training import batches as batches_module
from coldfusion_fl.training.batches import batches, shuffled_batches, tokenize
from coldfusion_fl.training.checkpoint import TrainingCheckpoint
from coldfusion_fl.training.finetune import EarlyStopping, finetune
from coldfusion_fl.training.predict import predict

FINETUNING = FinetuneSettings(learning_rate=3e-3, epochs=2, examples=0, max_length=16, patience=100)
EMBEDDING = "embeddings.word_embeddings.weight"
EVALUATION = EvaluateSettings(train_examples=60, test_examples=24, shots=30, few_shot_epochs=4, few_shot_seeds=2)


def finetuned(base, encoder, task, seed, settings=FINETUNING, head="mean", **options):
    model = build_model(base, task.num_labels, head, seed)
    merge(model, encoder)
    result = finetune(model, base.tokenizer, task, task.train, settings, seed, **options)
    return split(model), result


@pytest.mark.parametrize("head", ["mean", "class-token"])
def test_the_same_seed_gives_the_same_weights(base, encoder, task, head):
    one, _ = finetuned(base, encoder, task, 1, head=head)
    again, _ = finetuned(base, encoder, task, 1, head=head)
    other, _ = finetuned(base, encoder, task, 2, head=head)
    assert all(one[name].tobytes() == again[name].tobytes() for name in one)
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def test_the_encoder_changes_and_the_result_counts_the_steps(base, encoder, task):
    reports = []
    after, result = finetuned(base, encoder, task, 1, progress=lambda *report: reports.append(report))
    name = "encoder.layer.0.attention.self.query.weight"
    assert not np.array_equal(after[name], encoder[name])
    assert result.steps == 2 * 4
    assert result.examples == 120
    assert 0 <= result.dev_score <= 100
    assert reports[-1][:2] == (8, 8)
    assert reports[-1][2] > 0


def test_frozen_embeddings_stay_the_bases_without_decay_and_moments(base, encoder, task, tmp_path):
    """Also with the weight decay, which moves every row of a trained embedding."""
    settings = FINETUNING.model_copy(update={"weight_decay": 0.1, "freeze": "embeddings"})
    checkpoint = TrainingCheckpoint(tmp_path / "training.safetensors", {}, interval=0)
    after, _ = finetuned(base, encoder, task, 1, settings, checkpoint=checkpoint)
    changed = {name for name, array in after.items() if not np.array_equal(array, encoder.get(name))}
    assert EMBEDDING not in changed
    assert {name for name in encoder if name.startswith(("embeddings.position", "encoder."))} <= changed
    saved = load_file(tmp_path / "training.safetensors")
    moments = [array.shape for name, array in saved.items() if name.endswith("exp_avg")]
    assert moments and encoder[EMBEDDING].shape not in moments


def test_training_learns(base, encoder, task):
    schedule = FINETUNING.model_copy(update={"epochs": 8})
    score = score_task(base, encoder, task, "finetuned", schedule, EVALUATION, seed=0)
    assert score.value >= task.baseline() + 20
    assert (score.head, score.test_examples, score.train_examples) == ("mean", 24, 60)


@pytest.mark.parametrize(("factor", "offset"), [(1, 0), (10, 1970), (25_000, 90_000), (-20, 80), (1e-3, 0)])
def test_a_regression_learns_in_any_unit(base, encoder, regression, factor, offset):
    """Years, prices, percentages and shares."""
    task = rescaled(regression, factor, offset)
    schedule = FINETUNING.model_copy(update={"epochs": 8})
    assert score_task(base, encoder, task, "finetuned", schedule, EVALUATION, seed=0).value > 50
    assert score_task(base, encoder, task, "frozen", schedule, EVALUATION, seed=0).value > 50


def test_the_unit_of_a_regression_does_not_change_the_encoder(base, encoder, regression):
    """A power of 2 as the factor makes all standardised labels exactly equal."""
    one, _ = finetuned(base, encoder, regression, 1)
    other, _ = finetuned(base, encoder, rescaled(regression, 64, 0), 1)
    assert all(one[name].tobytes() == other[name].tobytes() for name in one)


def test_predictions_of_a_regression_have_the_unit_of_its_labels(base, encoder, regression):
    task = rescaled(regression, 10, 1970)
    model = build_model(base, 1, "mean", 0)
    merge(model, encoder)
    finetune(model, base.tokenizer, task, task.train, FINETUNING.model_copy(update={"epochs": 8}), 0)
    predictions = task.predictions(predict(model, base.tokenizer, tokenize(base.tokenizer, task.test, 16)))
    assert np.abs(predictions - task.test.labels).mean() < task.test.labels.std()


def test_constant_numbers_are_standardised_to_zero(regression):
    task = rescaled(regression, 0, 0.1)
    assert not task.for_training(task.train).labels.any()
    assert task.predictions(np.zeros((3, 1))) == pytest.approx(0.1)


def rescaled(task, factor, offset):
    """A regression with its labels in another unit."""
    splits = {
        split: replace(part, labels=(part.labels * factor + offset).astype(np.float32))
        for split in ("train", "validation", "test")
        if (part := getattr(task, split))
    }
    return replace(task, **splits)


def run_early_stop(scores, patience, examples_between=100):
    early_stopping = EarlyStopping(patience)
    for number, value in enumerate(scores, start=1):
        if early_stopping.should_stop(value, number * examples_between):
            return number
    return None


@pytest.mark.parametrize(
    ("scores", "stops_at"),
    [
        ([50, 60, 70, 80], None),
        ([50, 60, 60.05, 60.09], 4),  # less than 0.1 points over 200 examples
        ([50, 60, 60.05, 60.2, 60.2, 60.2], 6),  # a gain restarts the patience
        ([50, 40, 30], 3),
    ],
)
def test_early_stop_is_the_papers_rule(scores, stops_at):
    assert run_early_stop(scores, patience=200) == stops_at


def test_training_stops_early(base, encoder, task):
    settings = FINETUNING.model_copy(update={"learning_rate": 1e-9, "epochs": 30, "patience": 2.0})
    _, result = finetuned(base, encoder, task, 1, settings)
    assert result.examples == 3 * 60  # the first epoch, and two epochs without a gain


def test_batches_are_of_similar_length_and_complete(base, task):
    rows = tokenize(base.tokenizer, task.train, 16)
    seen = []
    for indices, batch in batches(base.tokenizer, rows, 7):
        seen += indices
        assert batch["input_ids"].shape == batch["attention_mask"].shape
        assert "labels" not in batch
    assert sorted(seen) == list(range(60))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("labels", [[0, 1, 2], [0.5, 1.0, -2.0]])
def test_batches_are_padded_as_transformers_pads_them(base, side, labels):
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.padding_side = side
    tokenizer.pad_token, tokenizer._pad_token_type_id = "[MASK]", 1  # by default both are 0, as in the mask
    texts = ["a cat", "a cat and a dog", "cat"]
    rows = tokenize(tokenizer, Examples(texts, ["a pair", "x", "y z"], np.array(labels)), 16)
    (ours,) = shuffled_batches(tokenizer, rows, 3, np.random.default_rng(0))
    order = [ours["labels"].tolist().index(label) for label in labels]
    theirs = DataCollatorWithPadding(tokenizer)(rows)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name][order], theirs[name], rtol=0, atol=0)  # which compares dtypes too


def test_an_epoch_has_every_row_once_in_batches_of_similar_length(base, task):
    rows = tokenize(base.tokenizer, task.train, 16)
    epochs = [list(shuffled_batches(base.tokenizer, rows, 7, np.random.default_rng(seed))) for seed in (0, 0, 1)]
    for epoch in epochs:
        seen = sorted(tuple(ids[ids != base.tokenizer.pad_token_id].tolist()) for b in epoch for ids in b["input_ids"])
        assert seen == sorted(tuple(row["input_ids"]) for row in rows)
        assert sorted(len(batch["labels"]) for batch in epoch) == [4] + [7] * 8
        spread = [int(np.ptp(batch["attention_mask"].sum(dim=1).numpy())) for batch in epoch]
        assert sum(spread) <= max(len(row["input_ids"]) for row in rows)
    first, again, other = ([batch["input_ids"].tolist() for batch in epoch] for epoch in epochs)
    assert first == again != other


def test_finetuning_does_not_change_pytorchs_random_state(base, encoder, task):
    torch.manual_seed(5)
    untouched = torch.rand(3)
    torch.manual_seed(5)
    finetuned(base, encoder, task, 1)
    assert torch.rand(3).equal(untouched)


def test_long_texts_are_truncated(base, task):
    rows = tokenize(base.tokenizer, task.train, 8)
    assert max(len(row["input_ids"]) for row in rows) == 8


def test_bf16_autocast_trains_and_scores(base, encoder, task, monkeypatch):
    """As on a CPU or GPU that supports it; the shared weights stay float32."""
    monkeypatch.setattr(batches_module, "supports_bfloat16", lambda: True)
    after, result = finetuned(base, encoder, task, 1)
    assert np.isfinite(result.loss)
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in after.values())
    assert score_task(base, after, task, "frozen", FINETUNING, EVALUATION, seed=0).value > task.baseline()
