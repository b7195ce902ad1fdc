import json

import pytest

from coldfusion_fl.errors import RunFolderError
from coldfusion_fl.experiments.plan import Key
from coldfusion_fl.experiments.scores import ScoreFile

ON = {"model": "M", "catalogue": ["c"]}
EXPERIMENT = {"title": "t", "folds": [], "base": ON, "scoring": {"rounds": [1], "finetune": {"epochs": 3}}}
RECIPES = {"paper": {"about": "x", "settings": {"rounds": 4}}}
KEY = Key("paper", 1, 4, "frozen", "a")
BASE_KEY = Key("base", 1, 0, "frozen", "a")
EMPTY = {part: {} for part in ("experiment", "recipes", "tasks", "roles", "making", "scores")}
ABOUT = {"metric": "accuracy", "head": "mean", "test-rows": 10}


@pytest.fixture
def begun(tmp_path):
    scores = ScoreFile(tmp_path / "scores.json")
    scores.begin(EXPERIMENT, RECIPES)
    return scores


def test_a_score_is_written_at_once(begun):
    assert KEY not in begun
    begun.add(KEY, 61.23456789, ABOUT)
    again = ScoreFile(begun.path)
    again.begin(EXPERIMENT, RECIPES)
    assert KEY in again
    assert again.at("paper", 1, 4, "frozen") == {"a": 61.2346}
    assert again.facts["tasks"] == {"a": ABOUT}
    assert list(again.values("paper", 4, "frozen")) == [(1, "a", 61.2346)]
    assert (again.seeds(), again.rounds("paper")) == ([1], [4])


def test_scores_of_another_recipe_are_not_mixed(begun):
    begun.add(KEY, 1.0, ABOUT)
    with pytest.raises(RunFolderError, match=r"other settings of 'paper'.*\n  settings.rounds: saved 4, now 5"):
        ScoreFile(begun.path).begin(EXPERIMENT, {"paper": {"about": "x", "settings": {"rounds": 5}}})
    with pytest.raises(RunFolderError, match=r"other settings of 'scoring'.*\n  finetune.epochs: saved 3, now 9"):
        ScoreFile(begun.path).begin({**EXPERIMENT, "scoring": {"rounds": [1], "finetune": {"epochs": 9}}}, RECIPES)


def test_a_recipe_without_scores_may_change(begun):
    recipes = {**RECIPES, "later": {"about": "z", "settings": {"rounds": 4}}}
    begun.begin(EXPERIMENT, recipes)
    begun.note_roles("later", 1, {"seen": ["a"], "unseen": []})
    begun.add(BASE_KEY, 50.0, ABOUT)
    begun.add(KEY, 1.0, ABOUT)
    again = ScoreFile(begun.path)
    again.begin(EXPERIMENT, {**RECIPES, "later": {"about": "z", "settings": {"rounds": 5}}})
    assert again.facts["recipes"]["later"]["settings"] == {"rounds": 5}
    again.note_roles("later", 1, {"seen": ["b"], "unseen": []})  # on other tasks, too
    assert KEY in again


def test_a_recipe_without_scores_may_be_removed(begun):
    begun.begin(EXPERIMENT, {**RECIPES, "later": {}})
    begun.add(KEY, 1.0, ABOUT)
    again = ScoreFile(begun.path)
    again.begin(EXPERIMENT, RECIPES)
    assert set(again.facts["recipes"]) == {"paper"}


def test_scores_of_another_base_or_catalogue_are_not_mixed(begun):
    begun.add(BASE_KEY, 50.0, ABOUT)  # the base is scored first, when nothing else is there yet
    for changed, reported in (({"model": "N"}, "model: saved 'M', now 'N'"), ({"catalogue": ["d"]}, "catalogue: ")):
        with pytest.raises(RunFolderError, match=f"other settings of 'base'.*\n  {reported}"):
            ScoreFile(begun.path).begin({**EXPERIMENT, "base": {**ON, **changed}}, RECIPES)


def test_the_base_is_on_the_tasks_of_all_recipes(begun):
    begun.note_roles("base", 1, {"seen": ["a"], "unseen": ["u"]})
    begun.note_roles("paper", 1, {"seen": ["a"], "unseen": ["u"]})
    begun.add(KEY, 1.0, ABOUT)
    again = ScoreFile(begun.path)
    again.begin(EXPERIMENT, {"other": {}})
    again.note_roles("base", 1, {"seen": ["b"], "unseen": []})
    assert again.facts["roles"]["base"]["1"] == {"seen": ["b", "a"], "unseen": ["u"]}


def test_recipes_are_in_the_order_of_the_experiment(begun):
    begun.note_making("paper", 1, {"seconds": 3})
    again = ScoreFile(begun.path)
    again.begin(EXPERIMENT, {"first": {}, **RECIPES, "last": {}})
    assert list(again.facts["recipes"]) == ["first", "paper", "last"]


def test_a_task_whose_data_changed_is_not_mixed(begun):
    begun.add(KEY, 1.0, ABOUT)
    with pytest.raises(RunFolderError, match=r"other settings of 'a'.*\n  test-rows: saved 10, now 11"):
        begun.add(BASE_KEY, 1.0, {**ABOUT, "test-rows": 11})
    assert BASE_KEY not in ScoreFile(begun.path)


def test_the_device_of_existing_bases_is_kept(begun):
    begun.note_making("paper", 1, {"seconds": 3, "device": "GPU"})
    begun.note_making("paper", 1, {"seconds": 4, "device": "CPU"})
    assert begun.facts["making"]["paper"]["1"] == {"seconds": 4, "device": "GPU"}


def test_a_recipe_with_bases_may_not_change(begun):
    begun.note_making("paper", 1, {"seconds": 3})
    with pytest.raises(RunFolderError, match="other settings of 'paper'"):
        ScoreFile(begun.path).begin(EXPERIMENT, {"paper": {"about": "x", "settings": {"rounds": 5}}})


def test_rounds_recipes_and_descriptions_may_be_added(begun):
    begun.add(KEY, 1.0, ABOUT)
    more = {"title": "u", "folds": [], "base": ON, "scoring": {"rounds": [1, 2], "finetune": {"epochs": 3}}}
    again = ScoreFile(begun.path)
    again.begin(more, {"paper": {"about": "y", "settings": {"rounds": 4}}, "other": {}})
    assert KEY in again
    assert set(again.facts["recipes"]) == {"paper", "other"}
    part = ScoreFile(begun.path)
    part.begin(more, {"other": {}})  # a part of the recipes: the others' scores stay
    assert KEY in part
    assert "paper" in part.facts["recipes"]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"scores": 3}', json.dumps({"scores": []}), json.dumps(EMPTY)])
def test_other_files_are_not_files_of_scores(tmp_path, text):
    (tmp_path / "scores.json").write_text(text)
    with pytest.raises(RunFolderError, match="not a file of scores"):
        ScoreFile(tmp_path / "scores.json")


def test_the_roles_of_scored_tasks_may_not_change(begun):
    begun.note_roles("paper", 1, {"seen": ("a",), "unseen": ("b",)})
    begun.note_roles("paper", 1, {"seen": ["a"], "unseen": ["b"]})
    begun.note_roles("paper", 2, {"seen": ["b"], "unseen": ["a"]})
    with pytest.raises(RunFolderError, match="'paper', seed 1, with other seen and unseen tasks"):
        begun.note_roles("paper", 1, {"seen": ["a", "b"], "unseen": []})


def test_a_recipe_may_be_older_than_a_setting(begun):
    begun.add(KEY, 1.0, ABOUT)
    now = {"paper": {"about": "x", "average": False, "settings": {"rounds": 4, "server": {"blend": 1.0}}}}
    again = ScoreFile(begun.path)
    again.begin(EXPERIMENT, now)
    assert KEY in again
    now["paper"]["settings"]["server"]["blend"] = 0.5
    with pytest.raises(RunFolderError, match="server.blend: saved not set, now 0.5"):
        ScoreFile(begun.path).begin(EXPERIMENT, now)
