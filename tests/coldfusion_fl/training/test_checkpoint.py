"""An interrupted training goes on, and gives the weights of one that was not interrupted."""

import errno

import numpy as np
import pytest

from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.model.encoder import build_model, merge, split
from coldfusion_fl.training.checkpoint import TrainingCheckpoint
from coldfusion_fl.training.finetune import finetune

SETTINGS = FinetuneSettings(learning_rate=3e-3, epochs=3, examples=0, max_length=16, patience=100, dev_examples=20)
STEPS = 3 * 4


class Interrupted(Exception):
    pass


class InterruptedCheckpoint(TrainingCheckpoint):
    """It saves after each step, and interrupts the training after some of them."""

    def __init__(self, file, identity, after):
        super().__init__(file, identity, interval=0)
        self.left = after

    def save(self, parts, statistics):
        super().save(parts, statistics)
        self.left -= 1
        if not self.left:
            raise Interrupted


def trained(base, encoder, task, head, checkpoint=None):
    model = build_model(base, task.num_labels, head, 1)
    merge(model, encoder)
    result = finetune(model, base.tokenizer, task, task.train, SETTINGS, 1, checkpoint=checkpoint)
    return split(model), result


@pytest.mark.parametrize("head", ["mean", "class-token"])
@pytest.mark.parametrize("interruptions", [(1,), (4, 3), (11,)])
def test_a_resumed_training_gives_the_same_weights(base, encoder, task, tmp_path, head, interruptions):
    expected, whole = trained(base, encoder, task, head)
    file = tmp_path / "training.safetensors"
    for after in interruptions:
        with pytest.raises(Interrupted):
            trained(base, encoder, task, head, InterruptedCheckpoint(file, {"seed": 1}, after))
    checkpoint = TrainingCheckpoint(file, {"seed": 1})
    assert checkpoint.saved_step() == sum(interruptions)
    found, resumed = trained(base, encoder, task, head, checkpoint)
    assert all(found[name].tobytes() == expected[name].tobytes() for name in expected)
    assert (resumed.steps, resumed.examples) == (whole.steps, whole.examples) == (STEPS, 180)
    assert (resumed.loss, resumed.dev_score) == (whole.loss, whole.dev_score)


def test_a_training_with_another_identity_starts_anew(base, encoder, task, tmp_path):
    file = tmp_path / "training.safetensors"
    with pytest.raises(Interrupted):
        trained(base, encoder, task, "mean", InterruptedCheckpoint(file, {"seed": 1}, 5))
    other = TrainingCheckpoint(file, {"seed": 2})
    assert other.saved_step() is None
    found, _ = trained(base, encoder, task, "mean", other)
    expected, _ = trained(base, encoder, task, "mean")
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("content", [b"", b"no tensors", b"\xff" * 64])
def test_a_file_that_is_no_checkpoint_is_no_saved_training(tmp_path, content):
    file = tmp_path / "training.safetensors"
    file.write_bytes(content)
    assert TrainingCheckpoint(file, {}).saved_step() is None


def test_a_full_disk_does_not_end_the_training(base, encoder, task, tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("coldfusion_fl.training.checkpoint.save_arrays", full)
    checkpoint = TrainingCheckpoint(tmp_path / "training.safetensors", {}, interval=0)
    found, _ = trained(base, encoder, task, "mean", checkpoint)
    expected, _ = trained(base, encoder, task, "mean")
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert caplog.text.count("No space left on device") == 1
    assert not list(tmp_path.iterdir())
