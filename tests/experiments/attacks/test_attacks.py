import numpy as np
import pytest

from coldfusion_fl.config.settings import TaskSettings
from coldfusion_fl.data.task import load_task
from coldfusion_fl.errors import SettingsError
from coldfusion_fl.experiments.attacks.attack import parse_attacks
from coldfusion_fl.experiments.attacks.labels import with_shuffled_labels

UPDATE = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32([-1, 2])}


def norm(arrays):
    return np.sqrt(sum(float(np.sum(array**2)) for array in arrays.values()))


def attacks(text):
    return parse_attacks({"x": text})["x"].apply(UPDATE, np.random.default_rng(0))


def test_noise_has_the_size_it_says_and_nothing_of_the_update():
    one, ten = attacks("noise(times=1)"), attacks("noise")
    assert norm(one) == pytest.approx(norm(UPDATE), rel=1e-5)
    assert norm(ten) == pytest.approx(10 * norm(UPDATE), rel=1e-5)
    assert {name: array.shape for name, array in ten.items()} == {"a": (2, 3), "b": (2,)}


def test_a_flipped_update_points_the_other_way():
    for name, array in attacks("sign-flip(times=2)").items():
        np.testing.assert_array_equal(array, -2 * UPDATE[name])


def test_shuffled_labels_leave_the_update_unchanged():
    assert attacks("label-shuffled") is UPDATE


def test_only_training_labels_are_shuffled(toy_data, tmp_path):
    tasks = TaskSettings(catalogue=(str(toy_data / "toy.toml"),))
    catalogue = with_shuffled_labels(tasks, parse_attacks({"b": "label-shuffled", "c": "noise"}), tmp_path, seed=3)
    honest, poisoned = load_task("b", tasks.catalogue), load_task("b", catalogue)
    assert poisoned.classes == honest.classes
    assert sorted(poisoned.train.texts) == sorted(honest.train.texts)
    assert sorted(poisoned.train.labels) == sorted(honest.train.labels)
    truth = dict(zip(honest.train.texts, honest.train.labels, strict=True))
    agree = np.mean([truth[text] == label for text, label in zip(*_of(poisoned.train), strict=True)])
    assert agree < 0.7
    assert _of(poisoned.test) == _of(honest.test)
    assert load_task("c", catalogue).train.texts == load_task("c", tasks.catalogue).train.texts


def _of(examples):
    return examples.texts, list(examples.labels)


def test_without_shuffled_labels_no_rows_are_written(toy_data, tmp_path):
    tasks = TaskSettings(catalogue=(str(toy_data / "toy.toml"),))
    assert with_shuffled_labels(tasks, parse_attacks({"b": "noise"}), tmp_path / "none", 0) == tasks.catalogue
    assert not (tmp_path / "none").exists()


def test_a_regression_has_no_classes_to_shuffle(tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"text": "t{i}", "label": {i}}}\n' for i in range(40)))
    (tmp_path / "c.toml").write_text('[tasks.r]\ntrain = "rows.jsonl"\nmetric = "spearman"')
    tasks = TaskSettings(catalogue=(str(tmp_path / "c.toml"),))
    with pytest.raises(SettingsError, match="'r' is a regression"):
        with_shuffled_labels(tasks, parse_attacks({"r": "label-shuffled"}), tmp_path / "out", 0)


def test_an_unknown_attack_is_named():
    with pytest.raises(SettingsError, match=r"attacker 'x': unknown name 'nosie'. Did you mean 'noise'"):
        parse_attacks({"x": "nosie"})
