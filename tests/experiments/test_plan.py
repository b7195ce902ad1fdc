from pathlib import Path

import pytest

from coldfusion_fl.config.comparison import differences
from coldfusion_fl.config.tables import merged, to_table
from coldfusion_fl.errors import CatalogueError, SettingsError
from coldfusion_fl.experiments.plan import BASE
from coldfusion_fl.experiments.reading import read_experiment

HEAD = """
title = "A toy"
seeds = [4, 7]
folds = ["b, d", "a, c, u"]
[run]
base = "BASE"
rounds = 4
contributors-per-round = 2
[run.tasks]
catalogue = "CATALOGUE"
[run.finetune]
examples = 30
epochs = 2
"""


@pytest.fixture
def read(toy_data, tiny_base, tmp_path):
    def made(text, head=HEAD, changes=None):
        file = tmp_path / "toy.toml"
        file.write_text(head.replace("BASE", str(tiny_base)).replace("CATALOGUE", str(toy_data / "toy.toml")) + text)
        return read_experiment(file, changes)

    return made


def test_each_seed_has_other_unseen_tasks(read):
    made = read("[recipes.paper]")
    first, second = (made.settings(made.recipes["paper"], seed) for seed in (4, 7))
    assert (first.tasks.unseen, first.tasks.seen) == (("a", "c", "u"), ("b", "d"))
    assert (second.tasks.unseen, second.tasks.seen) == (("b", "d"), ("a", "c", "u"))
    assert (first.seed, second.seed) == (4, 7)


def test_the_nodes_of_an_experiments_run_do_not_evaluate(read):
    made = read("[recipes.paper]")
    assert made.settings(made.recipes["paper"], 4).evaluate.every == -1


def test_a_recipe_changes_the_run(read):
    made = read('[recipes.other]\nrounds = 3\n[recipes.other.server]\nserver-optimizer = "nesterov"\n[recipes.paper]')
    other, paper = (made.settings(made.recipes[name], 4) for name in ("other", "paper"))
    assert (other.server.server_optimizer, other.rounds) == ("nesterov", 3)
    assert (paper.server.server_optimizer, paper.rounds) == ("plain", 4)
    assert made.recipes["other"].rounds == (3,)
    assert made.recipes["paper"].rounds == (4,)


def test_the_rounds_after_which_a_base_is_scored(read):
    made = read(
        "[recipes.paper]\n[recipes.short]\nrounds = 2\n[recipes.own]\nscored = [1, 4]\n"
        '[recipes.multi]\nkind = "multitask"\n[scoring]\nrounds = [1, 3, 9]'
    )
    assert {name: recipe.rounds for name, recipe in made.recipes.items()} == {
        "paper": (1, 3, 4),
        "short": (1, 2),
        "own": (1, 4),
        "multi": (0,),
    }


def test_the_base_is_scored_on_the_tasks_of_all_recipes(read):
    head = HEAD.replace("folds", "# folds")
    made = read('[recipes.x.tasks]\nseen = "a, b"\nunseen = "u"\n[recipes.y.tasks]\nseen = "b, d"\nunseen = "u"', head)
    tasks = made.base_settings(4).tasks
    assert (tasks.seen, tasks.unseen) == (("a", "b", "d"), ("u",))


def test_one_file_extends_another(read, tmp_path):
    read("[recipes.paper]\n[scoring]\nrounds = [1, 2]")
    (tmp_path / "large.toml").write_text('extends = "toy.toml"\nseeds = [1]\n[run]\nrounds = 9\n[scoring]\nfrozen = []')
    large = read_experiment(tmp_path / "large.toml")
    assert (large.name, large.title, large.seeds) == ("large", "A toy", (1,))
    assert large.recipes["paper"].rounds == (1, 2, 9)
    assert large.scoring.modes("seen") == ["finetuned"]


def test_the_plan_names_every_score_once(read):
    made = read('[recipes.paper]\n[recipes.alone]\nkind = "single-task"\n[scoring]\nrounds = [1]')
    keys = list(made.all_keys())
    assert len(set(keys)) == len(keys)
    of_seed = [key for key in keys if key.seed == 4]
    # Five tasks frozen and finetuned, three unseen ones few-shot: the base, and the paper's after rounds 1 and 4.
    assert len([key for key in of_seed if key.recipe == BASE]) == 13
    assert len([key for key in of_seed if key.recipe == "paper"]) == 26
    # A base of one task is for that task.
    assert {key.task for key in of_seed if key.recipe == "alone"} == {"b", "d"}


def test_a_task_cannot_be_seen_and_unseen_by_a_fold(read):
    with pytest.raises(SettingsError, match="tasks.seen names a, which 'folds' makes unseen with seed"):
        read('[recipes.paper]\ntasks.seen = "a, b"')


def test_tasks_must_be_a_table(read):
    with pytest.raises(SettingsError, match=r"'tasks' is a table: write \[run.tasks\]"):
        read("[recipes.paper]\ntasks = 3")


def test_some_seeds_and_recipes_of_an_experiment(read):
    made = read("[recipes.paper]\n[recipes.other]")
    part = made.only((7,), ("other",))
    assert {(key.seed, key.recipe) for key in part.all_keys()} == {(7, BASE), (7, "other")}
    assert part.settings(part.recipes["other"], 7).tasks.unseen == ("b", "d")  # the fold stays the seed's
    with pytest.raises(SettingsError, match="no seed 5. It has: 4, 7"):
        made.only((5,), ())
    with pytest.raises(SettingsError, match="no recipe papr. It has: paper, other"):
        made.only((), ("papr",))


def test_a_seed_that_is_listed_twice_counts_once(read):
    part = read("[recipes.paper]").only((7, 7), ("paper", "paper"))
    assert len(set(part.all_keys())) == len(list(part.all_keys()))


@pytest.mark.parametrize(
    ("text", "head", "message"),
    [
        ("", HEAD, "there is no recipe"),
        ("[recipe.paper]", HEAD, "unknown setting 'recipe'. Did you mean 'recipes'"),
        ("[settings.paper]", HEAD, "Available: comparisons, extends, folds, question, recipes, run, scoring"),
        ("[recipes.base]", HEAD, "Choose another name"),
        ("[recipes.paper]\nscored = [5]", HEAD, "it has 4 rounds, so it cannot be scored after 5"),
        ('[recipes.paper]\nkind = "cold"', HEAD, "must be one of federation, multitask, single-task"),
        ("[recipes.paper]\nround = 3", HEAD, "Did you mean 'rounds'"),
        ("[recipes.paper]\naverage = true", HEAD, "Set server.ema"),
        ("[recipes.paper.attacks]\nx = 'noise'", HEAD, "the attacker 'x'"),
        ("[recipes.paper.attacks]\nb = 'nois'", HEAD, "Did you mean 'noise'"),
        ("[recipes.m]\nkind = 'multitask'\nfinetune.examples = 0", HEAD, "needs finetune.examples"),
        ("[recipes.paper]\n[[comparisons]]\nof = 'papr'", HEAD, "Did you mean 'paper'"),
        ("[recipes.paper]\n[scoring]\nsplit = 'train'", HEAD, "must be one of test, validation"),
        ("[recipes.paper]\n[scoring]\nrounds = ['one']", HEAD, "a list of whole numbers"),
        ("[recipes.paper]\nrounds = 'ten'", HEAD, "'rounds' must be a whole number"),
        ("[recipes.'../x']", HEAD, "a folder's name"),
        ("[recipes.m]\nkind = 'multitask'\nattacks.b = 'noise'", HEAD, "only federations have"),
        ("[recipes.p]\nattacks.b = 'noise'\nserver.compression = 'int8'", HEAD, "Leave out server.compression"),
        ("[recipes.p]\n[recipes.q]\nbase = 'other'", HEAD, "the same base"),
        ("[recipes.paper]\n[scoring]\nfrozen = 'sen'", HEAD, "'seen' or 'unseen', not 'sen'"),
        ("[recipes.paper]\n[scoring]\nevaluate.shots = 0", HEAD, "needs evaluate.shots"),
        ("[recipes.paper]", HEAD.replace("folds", "without.tiny = 'aa'\nfolds"), "'tiny': there is no task 'aa'"),
        ("[recipes.paper]", HEAD.replace("folds", "comparisons = [1]\nfolds"), "write each comparison as"),
        ("[recipes.paper]", HEAD.replace("folds", "run = 3\nfolds").replace("[run", "[gone"), "write .run. and"),
        ("[recipes.paper]", HEAD.replace("folds", "extends = 'toy.toml'\nfolds"), "a cycle"),
        ("[recipes.paper]", HEAD.replace("[4, 7]", "[4, 4]"), "different seeds"),
        ("[recipes.paper]", HEAD.replace("b, d", "b, x"), "unknown task 'x'"),
        ("[recipes.paper]\ncontributors-per-round = 3\n", HEAD, "seen has only 2 tasks"),
    ],
)
def test_mistakes_in_an_experiments_file(read, text, head, message):
    with pytest.raises((SettingsError, CatalogueError), match=message):
        read(text, head)


def test_descriptions_have_no_paths_of_this_machine(read, tmp_path, toy_data, tiny_base):
    made = read("[recipes.paper]", changes={"run": {"tasks": {"data-root": str(tmp_path)}}})
    recipe = str(made.describe_recipe(made.recipes["paper"]))
    reported = str(made.describe()) + recipe
    assert str(tmp_path) not in reported
    assert str(toy_data) not in reported
    assert str(tiny_base) not in reported


def test_nested_tables_are_merged():
    one, other = {"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}, "d": {"e": 5}}
    assert merged(one, other) == {"a": {"b": 4, "c": 2}, "d": {"e": 5}}
    assert one == {"a": {"b": 1, "c": 2}, "d": 3}


ROOT = Path(__file__).parents[2]
SHIPPED = [file for file in sorted((ROOT / "experiments").glob("*.toml")) if "[recipes." in file.read_text()]


@pytest.mark.parametrize("file", SHIPPED, ids=[file.stem for file in SHIPPED])
def test_every_experiment_can_be_read(file, tmp_path):
    made = read_experiment(file, {"run": {"tasks": {"data-root": str(tmp_path)}}})
    assert len(set(made.all_keys())) == len(list(made.all_keys())) > 50


def test_the_main_experiment_has_the_papers_folds():
    made = read_experiment(ROOT / "experiments" / "main.toml", {"run": {"tasks": {"data-root": "/data"}}})
    assert [len(fold) for fold in made.folds] == [12, 12, 12]
    assert len({name for fold in made.folds for name in fold}) == 36
    for kin in ({"sst2", "sst5", "rotten_tomatoes"}, {"trec_coarse", "trec_fine"}, {"mrpc", "stsb"}, {"wnli", "wsc"}):
        assert any(kin <= set(fold) for fold in made.folds)  # they share texts


def test_the_recommended_recipe_is_the_chosen_one():
    """The preset that is tested on the test splits is the recipe that was chosen on the development splits."""
    data = {"run": {"tasks": {"data-root": "/data"}}}
    main, choice = (read_experiment(ROOT / "experiments" / f"{name}.toml", data) for name in ("main", "recipes"))
    tested, chosen = main.recipes["recommended"], choice.recipes["kept-nesterov-blend"]
    assert tested.average is chosen.average is True
    assert not differences(to_table(main.settings(tested, 1)), to_table(choice.settings(chosen, 1)), free={"rounds"})
