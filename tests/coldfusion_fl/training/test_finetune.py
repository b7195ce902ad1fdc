import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import DataCollatorWithPadding

from coldfusion_fl.config.settings import EvaluateSettings, FinetuneSettings
from coldfusion_fl.data.task import Examples, load_task
from coldfusion_fl.errors import SettingsError
from coldfusion_fl.evaluation.scores import _Features, draw_shots, score_task
from coldfusion_fl.model.encoder import merge, new_model, split
from coldfusion_fl.training import batches as batches_module
from coldfusion_fl.training.batches import batches, shuffled, tokenize
from coldfusion_fl.training.finetune import EarlyStop, finetune

FINETUNING = FinetuneSettings(learning_rate=3e-3, epochs=2, examples=0, max_length=16, patience=100)
EVALUATION = EvaluateSettings(train_examples=60, test_examples=24, shots=30, few_shot_epochs=4, few_shot_seeds=2)


@pytest.fixture(scope="module")
def task(toy_data):
    return load_task("b", (str(toy_data / "toy.toml"),))


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    folder = tmp_path_factory.mktemp("regression")
    lines = [f'{{"text": "{"cat " * (i % 5 + 1)}", "label": {i % 5}}}' for i in range(200)]
    # Equal texts would be carved away: a number makes each its own.
    lines = [line.replace('cat "', f'cat {i}"') for i, line in enumerate(lines)]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    (folder / "c.toml").write_text('[tasks.r]\ntrain = "rows.jsonl"\nmetric = "spearman"')
    return load_task("r", (str(folder / "c.toml"),))


def trained(base, encoder, task, seed, settings=FINETUNING, head="mean", **more):
    model = new_model(base, task.num_labels, head, seed)
    merge(model, encoder)
    done = finetune(model, base.tokenizer, task, task.train, settings, seed, **more)
    return split(model), done


@pytest.mark.parametrize("head", ["mean", "class-token"])
def test_the_same_seed_gives_the_same_weights(base, encoder, task, head):
    one, _ = trained(base, encoder, task, 1, head=head)
    again, _ = trained(base, encoder, task, 1, head=head)
    other, _ = trained(base, encoder, task, 2, head=head)
    assert all(one[name].tobytes() == again[name].tobytes() for name in one)
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def test_the_encoder_changes_and_the_reports_are_right(base, encoder, task):
    told = []
    after, done = trained(base, encoder, task, 1, progress=lambda *facts: told.append(facts))
    name = "encoder.layer.0.attention.self.query.weight"
    assert not np.array_equal(after[name], encoder[name])
    assert done.steps == 2 * 4
    assert done.examples == 120
    assert 0 <= done.dev_score <= 100
    assert told[-1][:2] == (8, 8)
    assert told[-1][2] > 0


def test_training_learns(base, encoder, task):
    schedule = FINETUNING.model_copy(update={"epochs": 8})
    score = score_task(base, encoder, task, "finetuned", schedule, EVALUATION, seed=0)
    assert score.value >= task.baseline() + 20
    assert (score.head, score.test_examples, score.train_examples) == ("mean", 24, 60)


def test_a_regression_learns(base, encoder, regression):
    schedule = FINETUNING.model_copy(update={"epochs": 8})
    assert score_task(base, encoder, regression, "finetuned", schedule, EVALUATION, seed=0).value > 50
    assert score_task(base, encoder, regression, "frozen", schedule, EVALUATION, seed=0).value > 50


def test_frozen_and_few_shot_scores(base, encoder, task):
    frozen = score_task(base, encoder, task, "frozen", FINETUNING, EVALUATION, seed=0)
    assert frozen.value > task.baseline()
    assert frozen == score_task(base, encoder, task, "frozen", FINETUNING, EVALUATION, seed=0)
    few = score_task(base, encoder, task, "few-shot", FINETUNING, EVALUATION, seed=0)
    assert few.train_examples == 30
    with pytest.raises(SettingsError, match="needs shots"):
        score_task(base, encoder, task, "few-shot", FINETUNING, EVALUATION.model_copy(update={"shots": 0}), seed=0)
    class_token = FINETUNING.model_copy(update={"head": "class-token"})
    assert score_task(base, encoder, task, "frozen", class_token, EVALUATION, seed=0).head == "class-token"


@pytest.mark.parametrize("rows", [2, 3, 5])
def test_a_frozen_score_of_few_rows(base, encoder, task, regression, rows):
    for judged in (task, regression):
        few = EVALUATION.model_copy(update={"train_examples": rows})
        score = score_task(base, encoder, judged, "frozen", FINETUNING, few, seed=0)
        assert score.train_examples == rows
        assert -100 <= score.value <= 100


def test_a_frozen_score_of_one_class_alone(base, encoder, task):
    one = replace(task, train=task.train.take(np.flatnonzero(task.train.labels == 1)))
    assert score_task(base, encoder, one, "frozen", FINETUNING, EVALUATION, seed=0).value == pytest.approx(100 / 3)


def test_shots_have_every_class(task):
    for seed in range(20):
        assert set(draw_shots(task, 3, seed).labels) == {0, 1, 2}
    assert draw_shots(task, 10, 0).texts == draw_shots(task, 10, 0).texts
    assert len(set(draw_shots(task, 20, 0).texts)) == 20


def run_early_stop(scores, patience, examples_between=100):
    rule = EarlyStop(patience)
    for number, value in enumerate(scores, start=1):
        if rule.is_due(value, number * examples_between):
            return number
    return None


@pytest.mark.parametrize(
    ("scores", "stops_at"),
    [
        ([50, 60, 70, 80], None),
        ([50, 60, 60.05, 60.09], 4),  # less than 0.1 points over 200 examples
        ([50, 60, 60.05, 60.2, 60.2, 60.2], 6),  # a gain in time starts the patience anew
        ([50, 40, 30], 3),
    ],
)
def test_early_stop_is_the_papers_rule(scores, stops_at):
    assert run_early_stop(scores, patience=200) == stops_at


def test_training_stops_early(base, encoder, task):
    settings = FINETUNING.model_copy(update={"learning_rate": 1e-9, "epochs": 30, "patience": 2.0})
    _, done = trained(base, encoder, task, 1, settings)
    assert done.examples == 3 * 60  # the first epoch's score, and two epochs that gained nothing


def test_batches_are_of_like_length_and_complete(base, task):
    rows = tokenize(base.tokenizer, task.train, 16)
    seen = []
    for chosen, batch in batches(base.tokenizer, rows, 7):
        seen += chosen
        assert batch["input_ids"].shape == batch["attention_mask"].shape
        assert "labels" not in batch
    assert sorted(seen) == list(range(60))


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("labels", [[0, 1, 2], [0.5, 1.0, -2.0]])
def test_batches_are_padded_as_transformers_pads_them(base, side, labels):
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.padding_side = side
    tokenizer.pad_token, tokenizer._pad_token_type_id = "[MASK]", 1  # in the toys both are 0, as in the mask
    texts = ["a cat", "a cat and a dog", "cat"]
    rows = tokenize(tokenizer, Examples(texts, ["a pair", "x", "y z"], np.array(labels)), 16)
    (ours,) = shuffled(tokenizer, rows, 3, np.random.default_rng(0))
    order = [ours["labels"].tolist().index(label) for label in labels]
    theirs = DataCollatorWithPadding(tokenizer)(rows)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name][order], theirs[name], rtol=0, atol=0)  # which compares dtypes too


def test_an_epoch_has_every_row_once_in_batches_of_like_length(base, task):
    rows = tokenize(base.tokenizer, task.train, 16)
    epochs = [list(shuffled(base.tokenizer, rows, 7, np.random.default_rng(seed))) for seed in (0, 0, 1)]
    for epoch in epochs:
        seen = sorted(tuple(ids[ids != base.tokenizer.pad_token_id].tolist()) for b in epoch for ids in b["input_ids"])
        assert seen == sorted(tuple(row["input_ids"]) for row in rows)
        assert sorted(len(batch["labels"]) for batch in epoch) == [4] + [7] * 8
        spread = [int(np.ptp(batch["attention_mask"].sum(dim=1).numpy())) for batch in epoch]
        assert sum(spread) <= max(len(row["input_ids"]) for row in rows)
    first, again, other = ([batch["input_ids"].tolist() for batch in epoch] for epoch in epochs)
    assert first == again != other


def test_a_kept_seed_leaves_torch_as_it_was(base, encoder, task):
    torch.manual_seed(5)
    untouched = torch.rand(3)
    torch.manual_seed(5)
    trained(base, encoder, task, 1)
    assert torch.rand(3).equal(untouched)


def test_long_texts_are_cut(base, task):
    rows = tokenize(base.tokenizer, task.train, 8)
    assert max(len(row["input_ids"]) for row in rows) == 8


def test_bf16_autocast_trains_and_scores(base, encoder, task, monkeypatch):
    """As on a processor or GPU that has it; the shared weights stay float32."""
    monkeypatch.setattr(batches_module, "has_bf16", lambda: True)
    after, done = trained(base, encoder, task, 1)
    assert np.isfinite(done.loss)
    assert all(array.dtype == np.float32 and np.isfinite(array).all() for array in after.values())
    assert score_task(base, after, task, "frozen", FINETUNING, EVALUATION, seed=0).value > task.baseline()


def test_a_class_token_without_a_pretrained_pooler_is_read_as_it_is(base, encoder, task):
    """Else a pooler drawn by the seed would stand between, and the score would depend on it."""
    bare = {name: array for name, array in encoder.items() if not name.startswith("pooler.")}
    class_token = FINETUNING.model_copy(update={"head": "class-token"})
    assert score_task(base, bare, task, "frozen", class_token, EVALUATION, seed=0).value >= 0
    model = new_model(base, task.num_labels, "class-token", 0)
    merge(model, bare)
    batch = base.tokenizer(["a cat"], return_tensors="pt")
    read = _Features(model.bert, "class-token", pooler=False).eval()(**batch)["logits"]
    assert read.equal(model.bert.eval()(**batch).last_hidden_state[:, 0])
