"""Whatever nodes say of themselves, the run ends, and everything that is written about it can be made."""

import csv
import io
import json
import math

import numpy as np
import pytest
from fake_grid import SHAPE, FakeGrid, contribution, node
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from coldfusion_fl.arrays.disk_arrays import ArrayFile
from coldfusion_fl.fusion import Mean, WeightedMean
from coldfusion_fl.model.origin import Origin
from coldfusion_fl.pages.run_page import run_page
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.lineage import lineage, print_lineage
from coldfusion_fl.runs.model_card import model_card
from coldfusion_fl.runs.records import ContributionRecord, RoundRecord
from coldfusion_fl.runs.report import score_table, summarize, write_report
from coldfusion_fl.runs.status import run_status
from coldfusion_fl.sanitize import metrics_limit
from coldfusion_fl.strategies import ColDFusion
from coldfusion_fl.strategies.rounds.metrics import weighted_metrics
from coldfusion_fl.strategies.rounds.round_state import without_arrays
from coldfusion_fl.strategies.rounds.validation import ReplyValidator
from coldfusion_fl.tracking.metrics import round_metrics, score_metrics

MODES = ("frozen", "few-shot", "finetuned")
KEYS = ("loss", "num-examples", "seconds", "steps", *MODES, *(f"{mode}-difference-error" for mode in MODES))
FORMULA, MARKUP = '=HYPERLINK("http://x.example")', "<img src=x onerror=y>|[a](http://x.example)\n\n# `b`\x1b[2K"
NUMBERS = st.one_of(
    st.floats(),
    st.sampled_from([1.7e308, -1.7e308, 5e-324, -0.0, math.inf, math.nan, 1e16, -1.0, 100.5]),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(0, 100),
)
TEXTS = st.sampled_from([FORMULA, MARKUP, "", "x" * 100_000, "accuracy", "spearman", "a", "\u202e", "+1", "\ud7ff"])
METRICS = st.dictionaries(st.sampled_from(KEYS) | TEXTS.filter(bool), NUMBERS, max_size=12)
ABOUT = st.fixed_dictionaries(
    {},
    optional={
        "metric": TEXTS, "head": TEXTS, "test-rows-hash": TEXTS, "seen": st.booleans() | NUMBERS, "name": TEXTS,
        "problem": TEXTS, "versions": TEXTS, "simulated-nodes": NUMBERS,
    },
)  # fmt: skip


def hostile_node(query, train, scores):
    """A node whose answers are these tables of metrics and texts; None: an error with a long text."""

    def answer(message):
        kind = message.metadata.message_type
        if kind == "query":
            return RecordDict({"config": ConfigRecord(query)})
        found = train if kind == "train" else scores
        if found is None:
            return Error(code=0, reason=MARKUP + "x" * 100_000)
        metrics, about = found
        content = RecordDict({"metrics": MetricRecord(metrics), "config": ConfigRecord(about)})
        if kind == "train":
            content["arrays"] = ArrayRecord({"w": Array(np.ones(SHAPE, np.float32))})
        return content

    return answer


REPORTS = st.none() | st.tuples(METRICS, ABOUT)


def play(folder, nodes):
    ledger = Ledger.create(
        folder,
        {
            "base": MARKUP, "seed": 1, "rounds": 1, "contributors-per-round": 4, "tasks": {"seen": [], "unseen": []},
            "server": {"blend": 1.0}, "evaluate": {"shots": 100},
        },
    )  # fmt: skip
    strategy = ColDFusion(
        contributor_names="query", contributors_per_round=4, min_available_nodes=2, node_timeout=0.2, ledger=ledger
    )
    grid = FakeGrid(dict(enumerate(nodes, start=100)))
    grid.has_arrived = lambda message: True
    strategy.start(grid, ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32))}), num_rounds=1, timeout=5)
    return ledger


def make_everything(ledger):
    """All that is made of a run folder."""
    write_report(ledger)
    card = model_card(ledger, "f00", Origin("org/base", "c0ffee"))
    page = run_page(ledger)
    status = json.dumps(run_status(ledger).as_json(), allow_nan=False)
    summary = summarize(ledger)
    console = Console(file=io.StringIO(), width=120)
    if summary["tasks"]:
        console.print(score_table(summary, 120))
    print_lineage(ledger, lineage(ledger, check=True), console)
    for record in ledger.records():
        values = {**round_metrics(record), **score_metrics(ledger.load_scores(record.round))}
        assert all(map(math.isfinite, values.values()))
        assert len(values) < 2000
    json.loads((ledger.folder / "report.json").read_text(), parse_constant=pytest.fail)
    return card, page, status, console.file.getvalue()


@settings(max_examples=12, phases=[Phase.generate], suppress_health_check=list(HealthCheck), deadline=None)
@given(st.lists(st.tuples(ABOUT, REPORTS, REPORTS), min_size=2, max_size=2))
def test_a_run_with_hostile_reports_ends_and_is_reported(tmp_path_factory, hostile):
    folder = tmp_path_factory.mktemp("run") / "run"
    ledger = play(folder, [node("a"), node("b"), *(hostile_node(*told) for told in hostile)])
    card, page, *_ = make_everything(ledger)
    assert "<img" not in page
    shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(card.partition("\n---\n")[2])
    assert not any(tag in shown for tag in ("<img", 'href="http://x.example', "<h1>`b`"))
    assert sum(file.stat().st_size for file in folder.rglob("*.json*")) < 400_000
    if (folder / "report.csv").exists():
        rows = list(csv.reader((folder / "report.csv").open(newline="", encoding="utf-8")))
        assert not any(cell.startswith(("=", "@", "\t", "\r")) for row in rows for cell in row)


def test_a_problem_of_megabytes_is_cut(ledger):
    def huge(message):
        return RecordDict({"config": ConfigRecord({"name": "huge", "problem": "no\x1b rows " * 2_000_000})})

    strategy = ColDFusion(
        contributor_names="query", contributors_per_round=2, min_available_nodes=2, node_timeout=0.2, ledger=ledger
    )
    grid = FakeGrid({100: node("a"), 101: node("b"), 102: huge})
    strategy.start(grid, ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32))}), num_rounds=1, timeout=1)
    (event,) = [event for event in ledger.events() if event.kind == "contributor-excluded"]
    assert (event.name, len(event.reason)) == ("huge", 300)
    assert event.reason.isprintable()


@pytest.mark.parametrize(("mode", "value"), [("few-shot", 1.7e308), ("frozen", 100.5), ("frozen", -3.0)])
def test_a_score_outside_of_its_metrics_range_is_no_score(mode, value, ledger):
    told = {mode: value, "num-examples": 9}, {"metric": "accuracy"}
    grid = FakeGrid({100: node("a"), 101: node("b"), 102: hostile_node({"name": "c"}, None, told)})
    strategy = ColDFusion(
        contributor_names="query", contributors_per_round=2, min_available_nodes=2, node_timeout=0.2, ledger=ledger
    )
    result = strategy.start(grid, ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32))}), num_rounds=1, timeout=1)
    assert mode not in ledger.load_scores(1).get("c", {})
    assert "c" in {event.name for event in ledger.events() if event.kind == "score-failed" and mode in event.reason}
    assert result.evaluate_metrics_clientapp[1].get("frozen", 0) <= 1


@pytest.mark.parametrize(("nodes", "most"), [(3, 100), (100, 100), (1000, 20)])
def test_the_more_members_a_round_has_the_fewer_numbers_of_each_are_recorded(nodes, most):
    content = contribution(np.ones(SHAPE, np.float32))
    content["more"] = MetricRecord({f"{number:03}" + "x" * 200: float(number) for number in range(200)})
    reply = Message(content, dst_node_id=1, message_type="train")
    arrays = ArrayFile()
    validator = ReplyValidator(
        {"w": np.zeros(SHAPE, np.float32)}, {}, Mean(), 1, arrays, None, "arrays", "config", metrics_limit(nodes)
    )
    reported = validator.validate("a", reply).contribution.metrics
    assert len(reported) == most
    record = RoundRecord(
        round=1, contributions={f"c{i}": ContributionRecord(norm=1.0, reported=reported) for i in range(nodes)}
    )
    assert len(json.dumps(record.to_json())) < 3_000_000


def test_the_metrics_of_a_round_are_those_that_most_nodes_report():
    contents = [
        RecordDict({"m": MetricRecord({"acc": 0.5, **{f"junk-{node}-{number}": 1.0 for number in range(100)}})})
        for node in range(5)
    ]
    found = weighted_metrics(contents, "num-examples")
    assert len(found) == 100
    assert found["acc"] == 0.5


def test_one_node_does_not_decide_the_form_of_a_metric():
    contents = [RecordDict({"m": MetricRecord({"loss": loss})}) for loss in ([1.0] * 5, 2.0, 3.0)]
    assert weighted_metrics(contents, "num-examples")["loss"] == 2.5


def test_long_lists_and_names_do_not_stay():
    content = RecordDict({"m": MetricRecord({"x" * 500: 1.0, "long": [0.5] * 300_000, "short": [0.5, 0.5]})})
    kept = without_arrays(Message(content, dst_node_id=1, message_type="train"))
    assert dict(kept["m"]) == {"x" * 60: 1.0, "short": [0.5, 0.5]}
    many = RecordDict({"m": MetricRecord({f"m{number}": [0.5] * 1000 for number in range(100)})})
    assert len(weighted_metrics([many], "num-examples")) == 10


def test_the_weight_is_kept_among_many_numbers():
    content = contribution(np.ones(SHAPE, np.float32))
    content["a"] = MetricRecord({f"m{number}": 1.0 for number in range(200)})
    content["z"] = MetricRecord({"rows": 7})
    reply = Message(content, dst_node_id=1, message_type="train")
    base = {"w": np.zeros(SHAPE, np.float32)}
    validator = ReplyValidator(base, {}, WeightedMean(by="rows"), 1, ArrayFile(), None, "arrays", "config", 20)
    assert validator.validate("a", reply).contribution.metrics["rows"] == 7


def test_a_run_folder_that_holds_absurd_values_already_is_reported(tmp_path):
    ledger = play(tmp_path / "run", [node("a"), node("b"), node("c")])
    for number in (0, 1):
        absurd = {"few-shot": 1.7e308, "frozen": -1.7e308, "num-examples": 10**30, "metric": FORMULA, "head": MARKUP}
        ledger.save_scores(number, {FORMULA: absurd, "a": {"frozen": 1e308, "few-shot-difference-error": 1e308}})
    progress = ledger.folder / "progress.jsonl"
    line = {"kind": "score-failed", "time": 1.0, "round": 1, "name": "c", "reason": "x" * 10_000_000}
    numbers = {"kind": "score-received", "time": 1.0, "round": 1, "name": "c", "scores": {"few-shot": 1e308, "x": None}}
    loss = {"kind": "training-step", "time": 1.0, "round": 1, "name": "c", "step": 1, "steps": 2, "loss": None}
    with progress.open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in (line, numbers, loss))
    card, page, status, shown = make_everything(ledger)
    assert all(len(text) < 1_000_000 for text in (card, page, status, shown))
    reported = {"loss": 1.7e308, "x" * 1000: 1.0, "seconds": -1.7e308}
    record = RoundRecord.model_validate({"round": 1, "contributions": {"a": {"norm": 1, "reported": reported}}})
    assert list(map(len, record.contributions["a"].reported)) == [60]
