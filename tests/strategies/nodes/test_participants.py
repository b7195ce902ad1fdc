"""Contributors that do not answer in time are sampled less, and never stall a run."""

import pytest
from fake_grid import FakeGrid, diverging_node, node
from flwr.app import ConfigRecord, Error, RecordDict
from flwr.common.constant import ErrorCode as FlowerErrorCode
from strategy_runs import run_strategy, zero_arrays

from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.strategies import ColDFusion


def mute(name, until=99):
    """A node that does not answer train messages before a round."""
    plain = node(name)
    return node(name, train=lambda m: plain(m) if m.content["config"]["coldfusion.round"] >= until else None)


def rounds_with(ledger, name):
    """The rounds in which a contributor was sampled."""
    return [record.round for record in ledger.records() if name in record.sampled]


HONEST = [node("a"), node("b")]
SETTINGS = {"timeout": 0.1, "evaluate_every": -1}


def test_a_mute_contributor_pauses_for_one_round_then_two_then_four(ledger):
    run_strategy([*HONEST, mute("c")], rounds=16, ledger=ledger, **SETTINGS)
    assert rounds_with(ledger, "c") == [1, 3, 6, 11]
    assert all(record.fused for record in ledger.records()[1:])
    assert ledger.record(2).paused == {"c": 2}
    assert [ledger.record(number).paused for number in (7, 10, 11)] == [{"c": 10}, {"c": 10}, {}]
    started = {event.round: event.paused for event in ledger.events() if event.kind == "round-started"}
    assert started[2] == ["c"]
    (rejection,) = ledger.record(1).rejected
    assert rejection.timed_out
    assert not rejection.counts_toward_exclusion


def test_an_answer_ends_the_pauses(ledger):
    run_strategy([*HONEST, mute("c", until=6)], rounds=9, ledger=ledger, **SETTINGS)
    assert rounds_with(ledger, "c") == [1, 3, 6, 7, 8, 9]


def test_a_resumed_run_samples_as_an_unbroken_one(tmp_path):
    def run(folder, *rounds):
        for number in rounds:
            ledger = Ledger.open(tmp_path / folder)
            run_strategy([*HONEST, node("d"), mute("c")], number, ledger, contributors_per_round=3, **SETTINGS)
        return [record.sampled for record in ledger.records()]

    assert run("resumed", 3, 4, 8) == run("unbroken", 8)


def test_where_too_few_others_are_there_those_whose_pause_ends_first_are_sampled(ledger):
    run_strategy([node("a"), mute("b"), mute("c", until=2)], rounds=5, ledger=ledger, **SETTINGS)
    assert [record.sampled for record in ledger.records()[1:3]] == [["a", "b", "c"], ["a", "b"]]
    assert ledger.record(2).paused == {"c": 2}
    assert rounds_with(ledger, "c") == [1, 3, 4, 5]
    assert [record.fused for record in ledger.records()[1:]] == [False, False, True, True, True]


def test_a_round_that_needs_everybody_pauses_nobody(ledger):
    run_strategy([*HONEST, mute("c")], rounds=3, ledger=ledger, min_contributions=3, **SETTINGS)
    assert rounds_with(ledger, "c") == [1, 2, 3]


@pytest.mark.parametrize(
    ("code", "reason", "pauses"),
    [
        (FlowerErrorCode.MESSAGE_UNAVAILABLE, "Reply message objects are unavailable.", True),
        (FlowerErrorCode.NODE_UNAVAILABLE, "the node is offline", False),
        (FlowerErrorCode.UNKNOWN, "<class 'ray.exceptions.ActorDiedError'>:<'killed'>", False),
    ],
    ids=["announced and not sent", "not connected", "a lost worker of a simulation"],
)
def test_only_who_kept_the_round_waiting_pauses(ledger, code, reason, pauses):
    gone = node("c", train=lambda message: Error(code=code, reason=reason))
    run_strategy([*HONEST, gone], rounds=2, ledger=ledger, **SETTINGS)
    assert ("c" in ledger.record(2).paused) == pauses


def evaluated(grid):
    """The rounds after which each node was asked to evaluate, by node ID."""
    asked = {}
    for message in grid.sent:
        if message.metadata.message_type == "evaluate":
            number = message.content["config"]["coldfusion.round"]
            asked.setdefault(message.metadata.dst_node_id, []).append(number)
    return asked


def test_a_contributor_that_is_excluded_does_not_evaluate(ledger):
    bad = node("bad", train=lambda message: Error(code=2, reason="no"))
    nodes = [*HONEST, bad, diverging_node("worse"), node("listed")]
    grid = FakeGrid(dict(enumerate(nodes, start=100)))
    settings = {"min_available_nodes": 5, "contributors_per_round": 5, "exclude": ["listed"], "max_rejections": 2}
    strategy = ColDFusion(contributor_names="query", ledger=ledger, **settings)
    strategy.start(grid, zero_arrays(), num_rounds=3, timeout=0.5)
    assert evaluated(grid) == {100: [0, 1, 2, 3], 101: [0, 1, 2, 3], 102: [0, 1, 2, 3], 103: [0, 1]}
    assert "worse" in ledger.load_scores(1)
    assert ledger.load_scores(2).keys() == {"a", "b", "bad"}


def test_an_exclusion_by_rejections_is_reported_although_an_earlier_one_had_another_reason(ledger):
    bad = diverging_node("c")
    problems = ["another base"] * 2

    def mended_after_the_first_round(message):
        if message.metadata.message_type != "query" or not problems:
            return bad(message)
        return RecordDict({"config": ConfigRecord({"name": "c", "problem": problems.pop()})})

    for rounds in (1, 2, 4):  # each process queries the nodes anew
        run_strategy(
            [*HONEST, mended_after_the_first_round], rounds, Ledger.open(ledger.folder), max_rejections=1, **SETTINGS,
            min_available_nodes=2,
        )  # fmt: skip
    assert [list(record.excluded.values())[:1] for record in ledger.records()[1:3]] == [["another base"]] * 2
    reasons = [event.reason for event in ledger.events() if event.kind == "contributor-excluded"]
    assert reasons[2:] == ["it has 1 rejected contribution (the limit is max-rejections = 1)"]
