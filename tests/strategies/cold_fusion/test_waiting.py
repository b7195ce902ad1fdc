"""The nodes that take part: the wait before the first round, and nodes that come, go or fail."""

import time

import pytest
from fake_grid import FakeGrid, contribution, node
from flwr.app import ConfigRecord, Error, RecordDict
from flwr.common.constant import ErrorCode
from strategy_runs import run_strategy, trained_nodes, zero_arrays

from coldfusion_fl.errors import RunError
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.strategies import ColDFusion
from coldfusion_fl.strategies.nodes import Member
from coldfusion_fl.versions import format_versions


def test_two_nodes_with_the_same_name_are_one_contributor():
    fused, _, _ = run_strategy([node("a", 1), node("a", 100), node("b", 3)], min_available_nodes=2)
    assert fused[0, 0] == 2


def test_too_few_nodes_end_the_wait_with_an_error():
    with pytest.raises(RunError, match="needs 2 contributors; connected: 1"):
        run_strategy([node("a")], min_available_nodes=2, node_timeout=0.3)


class GridWithALateNode(FakeGrid):
    """Its last node is there from the third look on."""

    looks = 0

    def get_node_ids(self):
        self.looks += 1
        return list(self.nodes)[: -1 if self.looks < 3 else None]


def test_the_first_round_waits_for_the_nodes_awaited_by_name(ledger):
    strategy = ColDFusion(
        contributor_names="query",
        ledger=ledger,
        min_available_nodes=3,
        awaited_names=("a", "b", "c"),
        contributors_per_round=4,
    )
    grid = GridWithALateNode(dict(enumerate([node("a"), node("b"), node("d"), node("c")], start=100)))
    strategy.start(grid, zero_arrays(), num_rounds=1, timeout=0.5)
    assert set(ledger.record(1).contributions) == {"a", "b", "c", "d"}
    [waiting] = [event for event in ledger.events() if event.kind == "waiting-for-nodes"]
    assert (waiting.connected, waiting.missing) == (3, ["c"])


def test_an_awaited_node_that_does_not_connect_is_recorded_as_missing(ledger):
    nodes = [node("a"), node("b"), node("u", seen=False)]
    run_strategy(nodes, ledger=ledger, min_available_nodes=3, awaited_names=("a", "b", "c", "u"), node_timeout=0.3)
    assert ledger.record(1).missing == ["c"]
    [members] = [event for event in ledger.events() if event.kind == "nodes-connected"]
    assert members.missing == ["c"]


def test_a_simulation_with_too_few_nodes_fails_at_once():
    def simulated(message):
        return RecordDict({"config": ConfigRecord({"name": f"n{message.metadata.dst_node_id}", "simulated-nodes": 2})})

    with pytest.raises(RunError, match="this simulation has 2 nodes.*num-supernodes=10"):
        run_strategy([simulated, simulated], min_available_nodes=10)


def test_a_node_that_reports_a_problem_is_left_out():
    def with_a_problem(message):
        return RecordDict({"config": ConfigRecord({"problem": "this node does not know its task"})})

    fused, _, grid = run_strategy([node("a", 1), node("b", 3), with_a_problem], min_available_nodes=2)
    assert fused[0, 0] == 2
    assert trained_nodes(grid) == {100, 101}


def node_that_describes_itself(name, **about):
    """A node that says this of itself when it is queried."""
    plain = node(name)

    def answer(message):
        if message.metadata.message_type == "query":
            return RecordDict({"config": ConfigRecord({"name": name, "seen": True, **about})})
        return plain(message)

    return answer


def test_a_node_with_another_version_is_left_out_and_both_versions_are_named(caplog):
    theirs, ours = "coldfusion-fl 9.9.9, flwr 1.42.0", format_versions()
    nodes = [
        node_that_describes_itself("a", versions=ours),
        node_that_describes_itself("b"),
        node_that_describes_itself("old", versions=theirs),
    ]
    _, _, grid = run_strategy(nodes, min_available_nodes=2)
    assert trained_nodes(grid) == {100, 101}
    assert f"Node 102 ('old') is excluded: it has {theirs}; this server has {ours}." in caplog.text


def test_a_node_cannot_join_under_the_name_of_another_key(caplog):
    def without_a_query_function(message):
        if message.metadata.message_type == "query":
            return Error(code=2, reason="no query function")
        return contribution(message.content["arrays"]["w"].numpy())

    nodes = [node("a"), node("b"), node("a"), node("stranger"), without_a_query_function]  # 100 to 104
    known = {100: "a", 101: "b", 102: "c", 104: "d"}
    _, _, grid = run_strategy(nodes, min_available_nodes=3, node_names=lambda: known)
    assert trained_nodes(grid) == {100, 101, 104}
    assert "Node 102 ('a') is excluded: its key belongs to 'c'" in caplog.text
    assert "Node 103 ('stranger') is excluded: its key does not belong to a member" in caplog.text


def test_an_unreachable_node_is_no_contributor():
    unreachable = Error(code=ErrorCode.NODE_UNAVAILABLE, reason="the node is gone")
    fused, _, grid = run_strategy([node("a", 1), node("b", 3), lambda m: unreachable], min_available_nodes=2)
    assert fused[0, 0] == 2
    assert trained_nodes(grid) == {100, 101}


def test_a_simulation_whose_workers_fail_stops_at_once():
    failed = Error(code=ErrorCode.UNKNOWN, reason="No module named 'nowhere'")
    with pytest.raises(RunError, match="cannot start.*No module named 'nowhere'"):
        run_strategy([lambda m: failed, lambda m: failed], min_available_nodes=2, node_timeout=20)


def test_a_worker_that_fails_once_is_queried_again():
    failures = iter([Error(code=ErrorCode.UNKNOWN, reason="the worker died")])
    plain = node("a", 1)
    fused, *_ = run_strategy([lambda m: next(failures, None) or plain(m), node("b", 3)], min_available_nodes=2)
    assert fused[0, 0] == 2


def test_a_new_node_that_never_answers_does_not_delay_the_rounds(monkeypatch):
    monkeypatch.setattr("coldfusion_fl.strategies.nodes.queries._NEW_NODE_WAIT", 0.2)
    began = time.monotonic()
    nodes = {100: node("a", 1), 101: node("b", 3)}
    grid = FakeGrid(nodes)
    strategy = ColDFusion(contributor_names="query", min_available_nodes=2)
    calls = iter(range(10**6))
    monkeypatch.setattr(grid, "get_node_ids", lambda: [100, 101] if next(calls) < 1 else [100, 101, 102])
    nodes[102] = lambda message: None
    grid.nodes = nodes
    strategy.start(grid, zero_arrays(), num_rounds=5, timeout=5)
    assert time.monotonic() - began < 3


@pytest.mark.usefixtures("as_in_a_deployment")
def test_the_server_waits_out_an_outage_instead_of_losing_rounds(ledger, monkeypatch):
    grid = FakeGrid({100: node("a"), 101: node("b")})
    there = grid.get_node_ids
    looks = iter(range(10**6))
    monkeypatch.setattr(grid, "get_node_ids", lambda: [] if 6 < next(looks) < 30 else there())
    ColDFusion(contributor_names="query", ledger=ledger).start(grid, zero_arrays(), num_rounds=8, timeout=5)
    assert next(looks) > 30
    assert [ledger.record(number).fused for number in range(1, 9)] == [True] * 8


@pytest.mark.parametrize("reported", ["abc", 1, -3, 2.5, [1]])
@pytest.mark.usefixtures("as_in_a_deployment")
def test_the_reported_size_of_a_simulation_is_ignored_in_a_deployment(reported):
    plain = node("a")

    def answer(message):
        if message.metadata.message_type != "query":
            return plain(message)
        return RecordDict({"config": ConfigRecord({"name": "a", "simulated-nodes": reported})})

    fused, *_ = run_strategy([answer, node("b"), node("c"), node("d")])
    assert fused[0, 0] == 1


def with_another_base(name):
    return node_that_describes_itself(name, problem="the frozen weights of this node's base are not those of the run.")


REASON = "the frozen weights of this node's base are not those of the run"


def test_a_member_with_a_problem_is_excluded_with_its_reason_and_not_called_missing(ledger):
    nodes = [node("a"), node("b"), with_another_base("c"), with_another_base("guest")]
    awaited = ("a", "b", "c", "d")
    run_strategy(nodes, ledger=ledger, min_available_nodes=4, awaited_names=awaited, node_timeout=0.3)
    record = ledger.record(1)
    assert (record.excluded, record.missing) == ({"c": REASON, "guest": REASON}, ["d"])
    [connected] = [event for event in ledger.events() if event.kind == "nodes-connected"]
    assert (connected.seen, connected.excluded, connected.missing) == (["a", "b"], ["c", "guest"], ["d"])
    [started] = [event for event in ledger.events() if event.kind == "round-started"]
    assert (started.excluded, started.missing) == (["c", "guest"], ["d"])


def test_an_excluded_member_that_is_awaited_is_told_apart_from_a_missing_one(ledger):
    nodes = [node("a"), node("b"), with_another_base("c")]
    run_strategy(nodes, ledger=ledger, min_available_nodes=2, awaited_names=("a", "c", "d"), node_timeout=0.3)
    waiting = [event for event in ledger.events() if event.kind == "waiting-for-nodes"][-1]
    assert (waiting.connected, waiting.missing, waiting.excluded) == (2, ["d"], ["c"])


def test_the_record_names_all_expected_members_and_only_so_many_others(ledger, monkeypatch):
    monkeypatch.setattr("coldfusion_fl.strategies.nodes.participants._MOST_UNEXPECTED", 2)
    others = [with_another_base(f"a{number}") for number in range(3)]
    expected = [f"c{number}" for number in range(3)]
    nodes = [node("a"), node("b"), *others, *map(with_another_base, expected)]
    run_strategy(nodes, ledger=ledger, min_available_nodes=2, awaited_names=("a", *expected), node_timeout=0.3)
    assert list(ledger.record(1).excluded) == ["a0", "a1", *expected]
    assert ledger.record(1).missing == []


def test_members_with_a_problem_that_were_in_an_earlier_process_of_the_run_are_named_too(ledger, monkeypatch):
    monkeypatch.setattr("coldfusion_fl.strategies.nodes.participants._MOST_UNEXPECTED", 0)
    names = ("a", "b", "c")
    run_strategy([node(name) for name in names], ledger=ledger)
    nodes = [node("a"), node("b"), with_another_base("c"), with_another_base("guest")]
    run_strategy(nodes, 2, Ledger.open(ledger.folder), min_available_nodes=2)
    assert ledger.record(2).excluded.keys() == {"c"}


@pytest.mark.usefixtures("as_in_a_deployment")
def test_a_stranger_with_a_problem_does_not_hide_that_a_member_is_not_connected(ledger):
    nodes = [node("a"), node("b"), with_another_base("c")]
    run_strategy(nodes, ledger=ledger, min_available_nodes=2, awaited_names=("a", "b", "c"), node_timeout=0.3)
    assert ledger.record(1).missing == ["c"]
    assert ledger.record(1).excluded.keys() == {"node-102"}


def test_a_run_with_too_few_members_names_the_first_that_is_excluded():
    with pytest.raises(RunError, match=f"connected: 1, excluded: 1 .the first: c: {REASON}"):
        run_strategy([node("a"), with_another_base("c")], node_timeout=0.3)


def test_nodes_that_are_known_before_the_run_are_not_queried(ledger):
    strategy = ColDFusion(contributor_names="query", ledger=ledger, min_available_nodes=2)
    strategy.known_members = [Member(100, "a", simulated_nodes=2), Member(101, "b", simulated_nodes=2)]
    grid = FakeGrid({100: node("x"), 101: node("y")})
    strategy.start(grid, zero_arrays(), num_rounds=1, timeout=5)
    assert set(ledger.record(1).contributions) == {"a", "b"}
    assert not [message for message in grid.sent if message.metadata.message_type == "query"]
