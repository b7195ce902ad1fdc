"""The report says what the scores say, and the committed reports are those of the committed scores."""

import copy
import re
from pathlib import Path

import pytest

from coldfusion_fl.experiments.figures import draw_rounds
from coldfusion_fl.experiments.outcome import write_outcome
from coldfusion_fl.experiments.scores import ScoreFile
from coldfusion_fl.experiments.tables import Results, comparisons, last_bases, making, report, rounds, shares, tasks

SCORES = {
    "base": {"1": {"0": {"frozen": {"a": 50.0, "b": 60.0, "u": 70.0}}}, "2": {"0": {"frozen": {"a": 52.0, "b": 60.0}}}},
    "paper": {
        "1": {"1": {"frozen": {"a": 51.0, "b": 59.0, "u": 70.0}}, "4": {"frozen": {"a": 54.0, "b": 62.0, "u": 69.0}}},
        "2": {"1": {"frozen": {"a": 53.0, "b": 61.0}}, "4": {"frozen": {"a": 54.0, "b": 64.0}}},
    },
    "other": {"1": {"2": {"frozen": {"a": 55.0, "b": 65.0, "u": 70.0}}, "4": {"frozen": {"a": 56.0, "b": 66.0}}}},
}


@pytest.fixture
def scores(tmp_path):
    made = ScoreFile(tmp_path / "scores.json")
    scoring = {
        "split": "test",
        "finetune": {"examples": 9, "epochs": 2, "learning-rate": 1e-4, "batch-size": 16, "max-length": 48},
        "evaluate": {"shots": 5, "few-shot-epochs": 3, "few-shot-seeds": 1, "train-examples": 7, "test-examples": 8},
    }
    pairs = [{"of": "other", "to": "paper"}]
    about = {"title": "T", "question": "Q?", "folds": [], "comparisons": pairs}
    about["without"] = {"the tiny": ["b", "z"], "what is not here": ["z"]}
    about["base"] = {"model": "B", "catalogue": ["c"]}
    recipe = {"about": "x", "settings": {}}
    made.begin({**about, "scoring": scoring}, {"paper": recipe, "other": recipe})
    made.facts["scores"] = copy.deepcopy(SCORES)
    made.facts["tasks"] = {name: {"metric": "accuracy", "head": "mean", "test-rows": 9} for name in "abu"}
    made.facts["roles"] = {
        name: {"1": {"seen": ["a", "b"], "unseen": ["u"]}, "2": {"seen": ["a", "b"], "unseen": []}} for name in SCORES
    }
    made.facts["making"] = {"paper": {"1": {"seconds": 120, "examples": 1000, "rejected": 2, "device": "CPU"}}}
    made.write()
    return made


def finetuned_like_frozen(scores):
    """Give each base finetuned scores, too: its frozen ones."""
    for seeds in scores.facts["scores"].values():
        for numbers in seeds.values():
            for modes in numbers.values():
                modes["finetuned"] = modes["frozen"]


def test_gains_are_over_the_base_of_the_same_seed(scores):
    table = last_bases(Results(scores))
    assert "| base |  | 55.5 | 70.0 |" in table
    # a: +4 and +2; b: +2 and +4.
    assert "| paper | 4 | +3.00 [+2.00, +4.00] (2 × 2) | -1.00 (1 × 1) |" in table
    # Of one seed only: a +6, b +6; the unseen one was last scored after round 2.
    assert "| other | 4 | +6.00 [+6.00, +6.00] (2 × 1) | +0.00 (1 × 1), after 2 |" in table


def test_groups_of_tasks_are_excluded_names(scores):
    assert "| paper | 4 | +3.00 [+2.00, +4.00] (1 × 2) | -1.00 (1 × 1) |" in last_bases(Results(scores, ["b"]))
    assert "| base |  | 51.0 | 70.0 |" in last_bases(Results(scores, ["b"]))
    reported = report(scores)
    assert last_bases(Results(scores, ["b"])) in reported
    for part in (comparisons, shares, rounds):
        assert part(Results(scores, ["b"])) in reported
    assert "Without the tiny (b):" in reported
    assert "what is not here" not in reported


def test_how_many_scores_there_are_where_not_every_task_has_every_seed(scores):
    del scores.facts["scores"]["paper"]["2"]["4"]["frozen"]["b"]
    assert "| paper | 4 | +2.50 [+2.00, +4.00] (3 of 2 × 2) |" in last_bases(Results(scores))


def test_few_shot_scores_of_seen_tasks_have_a_column(scores):
    scores.facts["scores"]["base"]["1"]["0"]["few-shot"] = {"a": 50.0}
    assert "few-shot, seen" in last_bases(Results(scores))


def test_shares(scores):
    assert "| paper | 2 of 2 | 0 of 1 |" in shares(Results(scores))


def test_comparisons_are_paired(scores):
    # a: 56 over 54, b: 66 over 62, of the seed that both have.
    assert "| other over paper | +3.00 [+2.00, +4.00] (2 × 1) | +1.00 (1 × 1) |" in comparisons(Results(scores))


def test_the_round_that_reaches_the_others_last_mean(scores):
    head, *_, row = comparisons(Results(scores)).splitlines()  # there is no finetuned score
    assert "reaches it" not in head
    assert row.endswith("(1 × 1) |")
    assert row.count("|") == head.count("|")
    finetuned_like_frozen(scores)
    assert comparisons(Results(scores)).splitlines()[-1].endswith("| 2 |")


def test_a_round_reaches_it_only_with_all_its_scores(scores):
    finetuned_like_frozen(scores)
    # The second seed has the last round alone: the first one's round 2 is no mean of both.
    scores.facts["scores"]["other"]["2"] = {"4": {"finetuned": {"a": 54.0, "b": 64.0}}}
    assert comparisons(Results(scores)).splitlines()[-1].endswith("| 4 |")


def test_round_by_round(scores):
    table = rounds(Results(scores))
    # a: +1 and +1; b: -1 and +1.
    assert "| paper | 1 | 1, 2 | +0.50 [-1.00, +1.00] (2 × 2) | +0.00 (1 × 1) |" in table
    assert "| paper | 4 | 1, 2 | +3.00 [+2.00, +4.00] (2 × 2) | -1.00 (1 × 1) |" in table


def test_a_course_is_of_the_same_scores_throughout(scores):
    del scores.facts["scores"]["paper"]["2"]["1"]
    table = rounds(Results(scores))
    assert "| paper | 1 | 1 | +0.00 [-1.00, +1.00] (2 × 1) | +0.00 (1 × 1) |" in table
    # With the second seed's also +3.00, but of other rounds.
    assert "| paper | 4 | 1 | +3.00 [+2.00, +4.00] (2 × 1) | -1.00 (1 × 1) |" in table
    assert Results(scores).course("paper", "frozen", "seen") == {
        1: {(1, "a"): 1, (1, "b"): -1},
        4: {(1, "a"): 4, (1, "b"): 2},
    }


def test_each_data_set(scores):
    seen, unseen = tasks(Results(scores))
    assert "| a | accuracy | 9 | 51.0 | +3.0 | +6.0 |" in seen
    assert "| u | accuracy | 9 | 70.0 | -1.0 | +0.0 |" in unseen


def test_the_cost_of_each_recipe(scores):
    assert "| paper | 1,000 | 2 | 2 | CPU |" in making(Results(scores))


def test_a_recipe_that_did_not_run_is_not_named(scores):
    scores.facts["recipes"]["later"] = {"about": "not yet", "settings": {}}
    reported = report(scores)
    assert "- `other`: x" in reported
    assert "later" not in reported


def test_the_same_scores_make_the_same_outcome(scores, tmp_path):
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        scores.path = tmp_path / name / "scores.json"
        write_outcome(scores)
    files = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert files == ["gains.png", "report.html", "report.md", "rounds.png", "sets-other.png"]
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes() for name in files)


ROOT = Path(__file__).parents[2]
RESULTS = sorted((ROOT / "experiments" / "results").glob("*/scores.json"))


def test_each_linked_experiment_has_results():
    story = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8")
    linked = set(re.findall(r"\(results/([\w-]+)/report\.md\)", story))
    assert linked
    assert linked <= {file.parent.name for file in RESULTS}


@pytest.mark.parametrize("file", RESULTS, ids=[file.parent.name for file in RESULTS])
def test_a_committed_report_is_that_of_its_scores(file):
    made = report(ScoreFile(file))
    written = (file.parent / "report.md").read_text(encoding="utf-8")
    assert written.startswith(made)
    assert all((file.parent / name).exists() for name in re.findall(r"\]\((.+\.png)\)", written))


@pytest.mark.parametrize(
    ("file", "without"),
    [("docs/results/index.md", ""), ("experiments/README.md", ""), ("experiments/findings.md", "the tiny sets")],
)
def test_the_headline_table_is_that_of_the_committed_scores(file, without):
    scores = ScoreFile(ROOT / "experiments" / "results" / "main" / "scores.json")
    left_out = scores.facts["experiment"]["without"][without] if without else ()
    assert last_bases(Results(scores, left_out)) in (ROOT / file).read_text(encoding="utf-8")


def test_a_figure_says_how_many_seeds_a_line_has(scores, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("coldfusion_fl.experiments.figures._save", lambda figure, path: drawn.append(figure))
    draw_rounds(Results(scores), tmp_path / "rounds.png")
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["paper (2 seeds)", "other (1 seed)"]


def test_a_recipe_of_which_no_seed_has_all_rounds_has_no_line(scores, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("coldfusion_fl.experiments.figures._save", lambda figure, path: drawn.append(figure))
    del scores.facts["scores"]["paper"]["1"]["4"], scores.facts["scores"]["paper"]["2"]["1"]
    draw_rounds(Results(scores), tmp_path / "rounds.png")
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["other (1 seed)"]
