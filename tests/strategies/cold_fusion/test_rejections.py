"""Replies that are rejected, and contributors that are excluded."""

import io
import json

import numpy as np
import pytest
from fake_grid import SHAPE, FakeGrid, contribution, diverging_node, failing_training, node
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from strategy_runs import run_strategy, trained_nodes, zero_arrays

from coldfusion_fl.errors import ErrorCode, RunError
from coldfusion_fl.strategies import ColDFusion


def pickled_array():
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"run": "me"}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def npz_archive():
    buffer = io.BytesIO()
    np.savez(buffer, w=np.ones(SHAPE, np.float32))
    return buffer.getvalue()


def header_of_a_huge_array():
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (10**13,)})
    return buffer.getvalue()


def raw_bytes(data, dtype="float32"):
    """A reply whose array consists of these bytes."""
    return RecordDict({"arrays": ArrayRecord({"w": Array(dtype, SHAPE, "numpy.ndarray", data)})})


BAD_REPLIES = {
    "NaN": (lambda m: contribution(np.full(SHAPE, np.nan, np.float32)), "not finite"),
    "infinity": (lambda m: contribution(np.full(SHAPE, np.inf, np.float32)), "not finite"),
    "an error": (failing_training, "its training failed: ValueError: out of paper"),
    "a leaked head": (
        lambda m: contribution(np.ones(SHAPE, np.float32), head=np.ones(2)),
        "the base does not have: 'head'",
    ),
    "another shape": (lambda m: contribution(np.ones((3, 2), np.float32)), "has the shape (3, 2)"),
    "another type": (lambda m: contribution(np.ones(SHAPE, np.int64)), "has the type int64"),
    "nothing": (lambda m: RecordDict(), "has no ArrayRecord"),
    "no arrays": (lambda m: RecordDict({"arrays": ArrayRecord()}), "lacks 1 weight of the base: 'w'"),
    "a pickle": (
        lambda m: raw_bytes(pickled_array(), "object"),
        "cannot be read",
    ),
    "an archive": (
        lambda m: raw_bytes(npz_archive()),
        "cannot be read",
    ),
    "a huge claim": (
        lambda m: raw_bytes(header_of_a_huge_array()),
        "cannot be read",
    ),
    "silence": (lambda m: None, "did not answer within 0.5 s"),
    "another round's": (
        lambda m: contribution(np.ones(SHAPE, np.float32), round=7),
        "it is for round 7, but this is round 1",
    ),
}


@pytest.mark.parametrize("kind", BAD_REPLIES)
def test_a_bad_reply_is_rejected_by_name_and_the_others_are_fused(kind, ledger):
    train, reason = BAD_REPLIES[kind]
    fused, result, _ = run_strategy([node("a", 2), node("culprit", train=train), node("c", 4)], ledger=ledger)
    assert fused.tolist() == [[3, 3, 3], [3, 3, 3]]
    record = ledger.record(1)
    (rejection,) = record.rejected
    assert rejection.name == "culprit"
    assert reason in rejection.reason
    assert record.contributions.keys() == {"a", "c"}
    assert result.train_metrics_clientapp[1]["coldfusion.rejected"] == 1
    assert [e.name for e in ledger.events() if e.kind == "contribution-rejected"] == ["culprit"]


def test_texts_from_nodes_cannot_move_the_cursor_of_a_terminal(ledger):
    def failing(message):
        return Error(code=0, reason="no\x1b[2K rows")

    def evaluate(message):
        if message.metadata.message_type == "evaluate":
            about = ConfigRecord({"metric": "x\x1b[2K" * 99, "head": "mean"})
            return RecordDict({"metrics": MetricRecord({"frozen": 1.0}), "config": about})
        return node("b")(message)

    run_strategy([node("a"), evaluate, node("c", train=failing)], ledger=ledger)
    (rejection,) = ledger.record(1).rejected
    assert rejection.reason.isprintable()
    assert "no?[2K rows" in rejection.reason
    metric = json.loads((ledger.round_folder(1) / "scores.json").read_text())["b"]["metric"]
    assert metric.isprintable()
    assert len(metric) == 60


def test_a_second_reply_of_one_contributor_is_rejected(ledger):
    answers = [contribution(np.full(SHAPE, v, np.float32)) for v in (2, 50)]
    fused, *_ = run_strategy([node("a", 4), node("twice", train=lambda m: answers)], ledger=ledger)
    assert fused[0, 0] in (3, 27)
    (rejection,) = ledger.record(1).rejected
    assert (rejection.name, rejection.reason) == ("twice", "it replied twice; only the first reply is used")


def test_a_reply_of_a_node_that_was_not_sent_a_message_is_rejected(ledger):
    class FirstTwo(ColDFusion):
        def sample(self, names, server_round):
            return names[:2] if server_round == 1 else names[2:]

    strategy = FirstTwo(contributor_names="query", min_available_nodes=4, ledger=ledger)
    grid = FakeGrid({number: node(name) for number, name in enumerate("abcd", start=100)})
    first = list(strategy.configure_train(1, zero_arrays(), ConfigRecord(), grid))
    grid.push_messages(first)
    replies = [Message(contribution(np.ones(SHAPE, np.float32)), reply_to=message) for message in first]
    messages = list(strategy.configure_train(2, zero_arrays(), ConfigRecord(), grid))
    grid.push_messages(messages)
    assert strategy.aggregate_train(2, replies)[0] is None
    strategy.configure_evaluate(2, zero_arrays(), ConfigRecord(), grid)  # saves the round
    reasons = {rejection.reason for rejection in ledger.record(2).rejected}
    assert "its reply does not belong to a message of this round" in reasons


def test_screening_rejects_and_records_the_reason(ledger):
    nodes = [node("a", 2), node("b", 3), node("c", 4), node("big", 3000)]
    fused, *_ = run_strategy(nodes, ledger=ledger, screening="size")
    assert fused[0, 0] == 3
    record = ledger.record(1)
    (rejection,) = record.rejected
    assert rejection.name == "big"
    assert "too large" in rejection.reason
    assert rejection.facts.norm == pytest.approx(3000 * 6**0.5)
    facts = record.contributions["a"]
    assert facts.norm == pytest.approx(2 * 6**0.5)
    assert facts.cosine == pytest.approx(1, abs=1e-3)
    assert facts.share == pytest.approx(1 / 3)
    assert facts.reported == {"loss": 0.5, "num-examples": 8}
    assert len(facts.sha256) == 64


def test_a_contributor_that_is_rejected_too_often_is_excluded(ledger):
    bad = diverging_node("bad")
    slow = node("slow", train=lambda m: None)
    run_strategy([node("a"), node("b"), bad, slow], rounds=4, ledger=ledger, max_rejections=2, timeout=0.2)
    sampled = [ledger.record(number).sampled for number in (1, 2, 3, 4)]
    assert ["bad" in names for names in sampled] == [True, True, False, False]
    assert "slow" not in ledger.record(4).excluded  # a missing reply does not count as a bad one
    assert ledger.record(3).excluded == {"bad": "it has 2 rejected contributions (the limit is max-rejections = 2)"}
    assert [e.name for e in ledger.events() if e.kind == "contributor-excluded"] == ["bad"]


def test_an_excluded_contributor_is_never_sampled():
    fused, _, grid = run_strategy([node("a", 1), node("b", 3), node("x", 100)], exclude=["x"])
    assert fused[0, 0] == 2
    assert trained_nodes(grid) == {100, 101}


def test_the_run_ends_where_too_few_contributors_are_left(ledger):
    bad = [diverging_node(n) for n in ("bad", "worse")]
    with pytest.raises(RunError, match="needs 2 contributors; available: 1, excluded: 2") as error:
        run_strategy([node("a"), *bad], rounds=50, ledger=ledger, max_rejections=3)
    assert error.value.code == ErrorCode.TOO_FEW_CONTRIBUTORS
    assert ledger.rounds() == [0, 1, 2, 3]


@pytest.mark.usefixtures("as_in_a_deployment")
def test_an_exclusion_is_recorded_once_however_long_the_server_waits(ledger):
    bad = [diverging_node(n) for n in ("bad", "worse")]
    settings = {"max_rejections": 1, "node_timeout": 0.3}
    with pytest.raises(RunError, match="excluded: 2"):
        run_strategy([node("a"), *bad], rounds=9, ledger=ledger, **settings)
    assert sorted(event.name for event in ledger.events() if event.kind == "contributor-excluded") == ["bad", "worse"]
    run_strategy([node("a"), *bad], rounds=2, ledger=ledger, **settings, min_contributions=1)  # as the message advises
    assert ledger.record(2).fused


def test_a_name_cannot_forge_log_lines(ledger):
    run_strategy([node("a\n\x1b[31mround 9" + "x" * 500), node("$\\frac$"), node("")], ledger=ledger)
    names = ledger.record(1).sampled
    assert all(name.isprintable() and 0 < len(name) <= 100 for name in names)
    assert "$\\frac$" in names
    assert any(name.startswith("node-") for name in names)


def test_at_most_a_hundred_reported_numbers_are_recorded(ledger):
    def chatty(message):
        content = contribution(np.ones(SHAPE, np.float32))
        content["more"] = MetricRecord({f"m{i}": float(i) for i in range(5000)})
        return content

    run_strategy([node("a"), node("b", train=chatty)], ledger=ledger)
    assert len(ledger.record(1).contributions["b"].reported) == 100
