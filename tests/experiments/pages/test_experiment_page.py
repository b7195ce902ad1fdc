"""`report.html` of an experiment."""

import pytest
from experiment_scores import make_scores
from web.read_pages import ReadPage, addresses

from coldfusion_fl.experiments.outcome import write_outcome
from coldfusion_fl.experiments.pages.experiment_page import experiment_page
from coldfusion_fl.experiments.tables import Results

BASE = {"a": 50.0, "b": 50.0, "u": 50.0, "v": 50.0}
GAINS = {"paper": {"a": 2.0, "b": 3.0, "u": 1.0, "v": 2.0}}
MARKUP = "<script>alert(1)</script> [x](javascript:alert) ![y](http://z) `|`"


@pytest.fixture
def scores(tmp_path):
    return make_scores(tmp_path, BASE, GAINS)


def test_the_verdict_comes_first_and_the_tables_are_folded_behind_it(scores):
    page = experiment_page(Results(scores))
    read = ReadPage(page)
    assert page.index("paper is better than the base") < page.index("<details")
    assert len(read.named("details")) == 5  # the set-up and four sections of report.md
    for part in ("Last bases", "Round by round", "Each data set", "What it took"):
        assert part in read.text
    assert "+2.50 [+2.00, +3.00]" in read.text  # the seen data sets, in the table of report.md
    assert "Finetuned: 9 rows, at most 2 epochs" in read.text


def test_the_page_loads_nothing(scores):
    page = experiment_page(Results(scores))
    assert addresses(page) == []
    assert not any("style" in found for _, found in ReadPage(page).elements)


def test_the_tables_can_be_sorted(scores):
    tables = ReadPage(experiment_page(Results(scores))).named("table")
    assert len(tables) >= 5
    assert all(table["class"] == "sortable" for table in tables)


def test_names_and_texts_stay_texts(tmp_path):
    made = make_scores(tmp_path, {MARKUP: 50.0, **BASE}, {MARKUP: {MARKUP: 1.0, "u": 2.0}})
    made.facts["experiment"] |= {"title": MARKUP, "question": f"{MARKUP}\n# {MARKUP}"}
    made.facts["roles"] = {
        name: {seed: {"seen": [MARKUP], "unseen": ["u"]} for seed in ("1", "2")} for name in ("base", MARKUP)
    }
    read = ReadPage(experiment_page(Results(made)))
    assert len(read.named("script")) == 1
    assert read.named("img") == []
    assert not any("javascript:" in link.get("href", "") for link in read.named("a"))
    assert len(read.named("h1")) == 1


def test_the_page_is_written_beside_the_report(scores):
    write_outcome(scores)
    assert (scores.path.parent / "report.html").read_text() == experiment_page(Results(scores))
