"""Classifiers, scores, comparisons and fusions from Python: the same as of the commands."""

import json

import pandas as pd
import pytest
from tiny_models import make_checkpoint

import coldfusion_fl as cf
from coldfusion_fl.api import inputs
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.errors import CatalogueError, DataError, ErrorCode, ModelError, SettingsError
from coldfusion_fl.fusion import Ties

SHORT = {"epochs": 1, "examples": 32, "max_length": 16}


@pytest.fixture(scope="module")
def classifier(tiny_base, tasks):
    return cf.finetune(tiny_base, tasks[0], learning_rate=1e-3, epochs=5, max_length=16)


@pytest.fixture(scope="module")
def other(tiny_base, tmp_path_factory):
    """Another model of the tiny base."""
    return make_checkpoint(tmp_path_factory.mktemp("other") / "model", tiny_base, seed=1, size=0.05)


def test_a_task_becomes_a_classifier(classifier, tasks):
    assert classifier.classes == tasks[0].classes
    assert classifier.score > classifier.baseline + 20
    found = classifier.predict(tasks[0].test.texts)
    right = [tasks[0].classes[label] for label in tasks[0].test.labels]
    assert sum(map(str.__eq__, found.labels, right)) / len(right) == pytest.approx(classifier.score / 100)
    table = found.to_dataframe()
    assert list(table.columns) == ["prediction", "probability", *(f"probability.{name}" for name in classifier.classes)]


def test_one_text_is_a_list_of_one(classifier):
    assert len(classifier.predict("cat dog")) == 1


def test_a_saved_classifier_predicts_the_same(classifier, tasks, tmp_path):
    folder = classifier.save(tmp_path / "mine")
    assert "my-a" in (folder / "README.md").read_text()
    texts = tasks[0].test.texts
    assert cf.load_classifier(folder).predict(texts).labels == classifier.predict(texts).labels
    with pytest.raises(SettingsError, match="exists already"):
        classifier.save(folder)


def test_the_command_and_the_function_make_the_same(toy_data, tiny_base, tmp_path, monkeypatch, capsys):
    from coldfusion_fl.cli.models.finetune import finetune

    made = cf.finetune(tiny_base, "a", catalogue=toy_data / "toy.toml", out=tmp_path / "one", seed=5, examples=24)
    finetune(str(tiny_base), "a", tmp_path / "two", catalogue=str(toy_data / "toy.toml"), seed=5, examples=24)
    files = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("one", "two")]
    assert files[0] == files[1]
    assert f"{made.score:.1f} [" in capsys.readouterr().out


def test_the_card_names_the_data_set_of_the_hub(tiny_base, tasks, tmp_path, monkeypatch):
    (tmp_path / "c.toml").write_text('[tasks.my-a]\nhub = "someone/films"\n')
    monkeypatch.setattr(inputs, "read_task", lambda name, catalogue: tasks[0])
    assert "someone/films" in cf.finetune(tiny_base, "my-a", catalogue=tmp_path / "c.toml", **SHORT).card


def test_a_catalogue_is_not_read_where_no_task_is_named(tiny_base, tasks):
    assert inputs.as_tasks(tasks, tiny_base, "missing.toml", "") == tasks


def test_a_regression_predicts_in_the_unit_of_its_labels(tiny_base, regression):
    made = cf.finetune(tiny_base, regression, **SHORT)
    found = made.predict(regression.test.texts)
    assert found.probabilities is None
    assert 0 < sum(found.labels) / len(found.labels) < 4
    assert list(found.to_dataframe().columns) == ["prediction"]


def test_pairs_need_second_texts(tiny_base):
    rows = [{"a": f"cat {i}", "b": f"dog {i}", "label": str(i % 2)} for i in range(60)]
    made = cf.finetune(tiny_base, cf.Task.from_dataframe(rows, "pairs", text=["a", "b"]), **SHORT)
    assert len(made.predict(["cat"], ["dog"])) == 1
    with pytest.raises(DataError, match="no second texts"):
        made.predict(["cat"])
    with pytest.raises(DataError, match="2 texts, but 1 second"):
        made.predict(["cat", "dog"], ["dog"])


def test_scores_are_those_of_the_tasks(tiny_base, tasks):
    scores = cf.evaluate(tiny_base, tasks, train_examples=30, max_length=16)
    assert [score.task for score in scores] == ["my-a", "my-b", "my-d"]
    assert list(pd.DataFrame(scores)["train_examples"]) == [30, 30, 30]
    loaded = cf.load_base(tiny_base)
    assert cf.evaluate(loaded, tasks[0], train_examples=30, max_length=16) == scores[:1]


def test_a_comparison_is_a_table(tiny_base, other, tasks):
    steps = []
    found = cf.compare([tiny_base, other], tasks[:2], max_length=16, progress=steps.append)
    table = found.to_dataframe()
    assert len(table) == 6  # two tasks and their mean, for two models
    assert table["model"].tolist()[:2] == [str(tiny_base), str(other)]
    assert table["difference"].notna().tolist() == [False, True] * 3
    assert len(steps) == 4


def test_checkpoints_are_fused(tiny_base, other, tmp_path):
    found = cf.fuse([other], tiny_base, out=tmp_path / "fused", fusion=Ties(density=0.5))
    assert json.loads((tmp_path / "fused" / "fusion.json").read_text())["sha256"] == found.sha256
    again = cf.fuse([other], tiny_base, fusion="ties(density=0.5)")
    assert again.sha256 == found.sha256
    cf.save_fusion(again, tmp_path / "again")
    assert cf.load_base(tmp_path / "again").encoder.keys() == found.encoder.keys()


def test_a_score_decides_what_is_fused(tiny_base, other, tasks):
    found = cf.fuse([other], tiny_base, screening="greedy-soup", server_validation=tasks[0])
    assert len(found.checkpoints) == 1


def test_a_settings_object_gives_what_was_set(tiny_base, tasks):
    from coldfusion_fl.api.inputs import table_of

    given = {"finetune": FinetuneSettings(epochs=3), "server": {"fusion": Ties(density=0.5)}, "out": None}
    assert table_of(given) == {"finetune": {"epochs": 3}, "server": {"fusion": str(Ties(density=0.5))}}


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda base, task: cf.finetune(base, task, learning_rat=1.0), SettingsError, "learning-rat"),
        (lambda base, task: cf.finetune(base, task, epochs=0), SettingsError, r"'epochs' must be at least 1"),
        (lambda base, task: cf.finetune(base, "nope"), CatalogueError, "unknown task 'nope'"),
        (lambda base, task: cf.finetune(base, task, out="/nowhere/x"), SettingsError, "does not exist"),
        (lambda base, task: cf.evaluate(base, task, mode="frosen"), SettingsError, "mode must be one of"),
        (lambda base, task: cf.evaluate(base, task, shotz=1), SettingsError, "Did you mean 'shots'"),
        (lambda base, task: cf.evaluate(base, [task, task]), SettingsError, "named twice"),
        (lambda base, task: cf.evaluate(base, []), SettingsError, "there is no task"),
        (lambda base, task: cf.evaluate(3, task), SettingsError, "this is a int"),
        (lambda base, task: cf.evaluate("/nowhere", task), ModelError, "does not exist"),
        (lambda base, task: cf.compare([base], task), SettingsError, "two models or more"),
        (lambda base, task: cf.compare([base, base], task), SettingsError, "identical"),
        (lambda base, task: cf.fuse([], base), SettingsError, "no checkpoint"),
        (lambda base, task: cf.load_task("nope"), CatalogueError, "unknown task"),
        (lambda base, task: cf.load_classifier(base), ModelError, "no classification head"),
    ],
)
def test_a_mistake(tiny_base, tasks, call, kind, message):
    with pytest.raises(kind, match=message):
        call(tiny_base, tasks[0])


def test_a_missing_extra_is_one_sentence(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "coldfusion_fl.api.models", None)
    with pytest.raises(ModuleNotFoundError):  # of this package: a bug, not an extra
        _ = cf.finetune
    monkeypatch.delitem(sys.modules, "coldfusion_fl.api.models")
    monkeypatch.setitem(sys.modules, "coldfusion_fl.checkpoints.checkpoint", None)

    class Missing:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "coldfusion_fl.checkpoints.saving":
                raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.delitem(sys.modules, "coldfusion_fl.checkpoints.saving", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing, *sys.meta_path])
    with pytest.raises(SettingsError, match=r"coldfusion_fl.save_fusion needs torch.*coldfusion-fl\[models\]") as error:
        _ = cf.save_fusion
    assert error.value.code == ErrorCode.EXTRA_MISSING
