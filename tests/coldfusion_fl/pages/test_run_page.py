"""`report.html` of a run folder."""

import base64
import hashlib
import json
import logging
import math
import re

import numpy as np
import pytest
from scored_runs import make_scored_run, scored
from web.read_pages import ReadPage, addresses

from coldfusion_fl.errors import RunFolderError
from coldfusion_fl.pages import run_page as module
from coldfusion_fl.pages.contributions import contribution_rows, contributors
from coldfusion_fl.pages.run_page import run_page, write_page_of_finished_run, write_run_page
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.records import ContributionRecord, PrivacySpent, RejectionRecord, RoundRecord, UpdateFacts
from coldfusion_fl.runs.report import summarize

MARKUP = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7 * 7 }}"
BASE = {"w": np.zeros(2, np.float32)}


@pytest.fixture
def ledger(tmp_path):
    return make_scored_run(tmp_path / "a run", rounds=2)


def run_of(folder, contributions=(), rejected=(), scores=({}, {}), **settings):
    """A run of one round with these contributions, rejections and scores."""
    made = Ledger.create(folder, {"rounds": 1, **settings})
    made.save_round(BASE, RoundRecord(round=0))
    made.save_round(
        BASE,
        RoundRecord(round=1, fused=True, contributions=dict(contributions), rejected=list(rejected), began=1.0),
    )
    for number, found in enumerate(scores):
        if found:
            made.save_scores(number, found)
    return made


def test_the_page_says_how_good_the_run_is_and_how_it_came_about(ledger):
    read = ReadPage(run_page(ledger))
    assert "a run" in read.text
    assert "All 2 rounds are done" in read.text
    # The gains of the tasks, who contributed, who was rejected and why, and the settings.
    for part in ("+4.0", "50.0 → 54.0", "it lacks a weight", "mean of unseen tasks", "some/base", "server.blend"):
        assert part in read.text
    assert len(read.named("h1")) == 1


def test_the_page_counts_and_names_excluded_contributors_with_the_reason(tmp_path, monkeypatch):
    made = Ledger.create(tmp_path / "x", {"rounds": 2})
    made.save_round(BASE, RoundRecord(round=0))
    excluded = {"c": "it has another base", MARKUP: "no versions"}
    for number in (1, 2):
        made.save_round(BASE, RoundRecord(round=number, fused=True, excluded=excluded, began=1.0))
    text = ReadPage(run_page(made)).text
    assert "0 rejected; 2 contributors excluded" in text
    assert "it has another base" in text
    assert len(contributors(contribution_rows(made.records()))) == 2
    monkeypatch.setattr("coldfusion_fl.pages.contributions.MAX_EXCLUDED", 1)
    assert [one.name for one in contributors(contribution_rows(made.records()))] == [MARKUP]
    assert summarize(made)["excluded"][0] == {"round": 1, "name": MARKUP, "reason": "no versions"}


def test_tables_can_be_read_by_their_headings(ledger):
    read = ReadPage(run_page(ledger))
    assert {attributes.get("scope") for attributes in read.named("th")} == {"col", "row"} | {
        attributes.get("scope") for attributes in read.named("th") if "colspan" in attributes
    }
    assert all(attributes.get("aria-label") for attributes in read.named("svg") if attributes.get("role") == "img")


def test_the_page_loads_nothing_and_runs_only_its_own_script(ledger):
    page = run_page(ledger)
    assert addresses(page) == []
    [policy] = [found["content"] for found in ReadPage(page).named("meta") if "http-equiv" in found]
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert "unsafe" not in policy
    [script] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    assert base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy
    assert not any(key == "style" or key.startswith("on") for _, found in ReadPage(page).elements for key in found)


def test_texts_of_other_parties_stay_texts(tmp_path):
    facts = UpdateFacts(norm=1.0, sha256=MARKUP)
    made = run_of(
        tmp_path / "x",
        [(MARKUP, ContributionRecord(norm=1, share=1, sha256=MARKUP))],
        [RejectionRecord(name=f"b {MARKUP}", reason=MARKUP, facts=facts)],
        [{MARKUP: scored(50.0, metric=MARKUP, head=MARKUP)}, {MARKUP: scored(51.0, metric=MARKUP, head=MARKUP)}],
        base=MARKUP,
        **{MARKUP: MARKUP},
    )
    page = run_page(made)
    read = ReadPage(page)
    assert len(read.named("script")) == 1
    assert read.named("img") == []
    assert MARKUP in " ".join(read.texts)
    assert "{{ 7 * 7 }}" in page


def test_numbers_that_nobody_should_report_do_not_break_the_page(tmp_path):
    odd = {"seconds": 1.7e308, "loss": 1e300}
    made = run_of(
        tmp_path / "x",
        [
            ("a", ContributionRecord(norm=1.7e308, cosine=-1, share=1e-300, reported=odd)),
            ("b", ContributionRecord(norm=1e-320, share=1.0, reported={"loss": -1.7e308, "seconds": -1.7e308})),
        ],
        [RejectionRecord(name="c", reason="x" * 100_000)],
        [
            {"a": scored(50.0), "b": scored(0.0), "c": {}, "d": scored(1.0, rows=10**18)},
            {"a": scored(1.7e308), "b": scored(-1.7e308), "c": {"frozen": 1.0}, "d": scored(2.0, rows=10**18)},
        ],
        **{"server.ema": 1.7e308},
    )
    page = run_page(made)
    assert len(page) < 200_000
    assert "nan" not in re.sub(r"<script>.*?</script>|<style>.*?</style>", "", page, flags=re.DOTALL).lower()


@pytest.mark.parametrize("score", [math.nan, math.inf], ids=["nan", "infinite"])
def test_a_score_that_is_no_number_has_no_place_in_the_chart(tmp_path, score):
    made = run_of(tmp_path / "x", scores=[{"a": scored(1.0), "b": scored(1.0)}, {"a": scored(score), "b": scored(3.0)}])
    assert "b" in ReadPage(run_page(made)).text


@pytest.mark.parametrize("rounds", [None, "many", 3], ids=["none", "text", "more"])
def test_a_run_without_scores_and_with_few_settings_has_a_page(tmp_path, rounds):
    made = Ledger.create(tmp_path / "x", {} if rounds is None else {"rounds": rounds})
    assert "No round has been saved yet." in run_page(made)
    made.save_round(BASE, RoundRecord(round=0))
    assert "first base" in run_page(made)


def test_a_run_that_ended_early_says_so(tmp_path):
    made = run_of(tmp_path / "x")
    made.state_file.failed("the disk <is> full")
    page = run_page(make_unfinished(made))
    assert "1 of 5 rounds are done; the state of the run is “failed”: the disk &lt;is&gt; full" in page


def make_unfinished(made):
    """The same run, as if it was to have five rounds."""
    file = made.folder / "run.json"
    facts = json.loads(file.read_text())
    file.write_text(json.dumps(facts | {"settings": facts["settings"] | {"rounds": 5}}))
    return made


def test_the_machine_and_the_timings_are_on_the_page(ledger):
    ledger.note_machine({"processor": "Fast <9000>", "cores": 8, "memory-bytes": 64 << 30, "gpus": ["H9"]})
    ledger.state_file.finished(peak_memory_bytes=3 << 30)
    text = ReadPage(run_page(ledger)).text
    assert "Fast <9000>, 8 cores, 64.0 GiB of memory, H9" in text
    assert "3.0 GiB" in text


def test_the_privacy_loss_is_on_the_page(tmp_path):
    made = run_of(tmp_path / "x")
    made.save_round(BASE, RoundRecord(round=2, fused=True, privacy=PrivacySpent(epsilon=1.25, delta=1e-5, rounds=2)))
    assert "ε = 1.25 at δ = 1e-05" in ReadPage(run_page(made)).text


def test_of_very_many_contributions_the_latest_are_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(module.contributions, "MAX_ROWS", 5)
    made = run_of(tmp_path / "x", [(f"c{number}", ContributionRecord(norm=1, share=1)) for number in range(7)])
    assert "The first 2 rows are left out" in run_page(made)


def test_writing_replaces_the_page(ledger):
    write_run_page(ledger)
    file = ledger.folder / "report.html"
    before = file.read_text()
    ledger.note_machine({"processor": "another"})
    write_run_page(ledger)
    assert before != file.read_text()
    assert [path.name for path in ledger.folder.iterdir() if path.name.startswith(".")] == []


def test_a_page_that_fails_does_not_fail_the_run(ledger, monkeypatch, caplog):
    monkeypatch.setattr(module, "run_page", lambda ledger: 1 / 0)
    with caplog.at_level(logging.WARNING):
        write_page_of_finished_run(ledger)
    assert "report.html could not be written" in caplog.text
    assert not (ledger.folder / "report.html").exists()


def test_a_folder_without_a_run_has_no_page(tmp_path):
    with pytest.raises(RunFolderError):
        run_page(Ledger(tmp_path))


def test_intervals_are_on_the_page_and_only_they_give_a_colour(tmp_path):
    scores = [
        {"a": scored(50.0), "u": scored(50.0, seen=False)},
        {
            "a": scored(58.0, **{"frozen-difference-error": 1.0}),
            "u": scored(58.0, seen=False, **{"frozen-difference-error": 10.0}),
        },
    ]
    page = run_page(run_of(tmp_path / "x", scores=scores))
    assert "Better on the seen task: +8.0 points [+6.0, +10.0] frozen." in ReadPage(page).text
    assert "[−11.6, +27.6]" in page
    assert page.count('<dd class="good">+8.0') == 1
    assert page.count('<dd class="">+8.0') == 1
