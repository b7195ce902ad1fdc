"""Nodes are queried for their names."""

import time

import pytest
from fake_grid import FakeGrid, node
from flwr.app import ConfigRecord, RecordDict

from coldfusion_fl.strategies.nodes import queries
from coldfusion_fl.strategies.nodes.membership import Member
from coldfusion_fl.strategies.nodes.queries import QueriedNodes


@pytest.mark.usefixtures("as_in_a_deployment")
def test_a_node_that_was_left_out_is_queried_again_and_reported_once(monkeypatch):
    monkeypatch.setattr(queries, "_NEW_NODE_WAIT", 0.2)
    monkeypatch.setattr(queries, "_RETRY_INTERVAL", 0.0)
    problems, asked, reported = ["it is ill", "it is ill", ""], [], []

    def changes(message):
        asked.append(message)
        problem = problems.pop(0) if problems else ""
        return RecordDict({"config": ConfigRecord({"name": "c", **({"problem": problem} if problem else {})})})

    grid = FakeGrid({100: node("a"), 101: node("b"), 102: changes})
    calls = QueriedNodes("config", on_excluded=lambda name, reason, received: reported.append((name, reason)))
    deadline = time.monotonic() + 20
    while "c" not in (there := calls.connected_nodes(grid)):
        assert time.monotonic() < deadline
        assert there.keys() <= {"a", "b"}
        time.sleep(0.02)
    assert reported == [("node-102", "it is ill")]
    assert len(asked) == 3
    for _ in range(20):  # who takes part is not asked any more
        calls.connected_nodes(grid)
    assert len(asked) == 3


class ChangingGrid(FakeGrid):
    """Nodes come and go between two calls."""

    connected = ()

    def get_node_ids(self):
        return [number for number in self.nodes if number in self.connected]

    def has_arrived(self, message):
        return True


def named(name, **about):
    return lambda message: RecordDict({"config": ConfigRecord({"name": name, **about})})


def members(grid, registry, *connected):
    """The IDs of the members while some nodes are connected, by name."""
    grid.connected = connected
    return {name: member.node_id for name, member in registry.connected_nodes(grid).items()}


@pytest.fixture
def reported():
    """The names and reasons of the excluded nodes."""
    return []


@pytest.fixture
def registry(monkeypatch, reported):
    monkeypatch.setattr(queries, "_NEW_NODE_WAIT", 0.2)
    return QueriedNodes("config", on_excluded=lambda name, reason, received: reported.append((name, reason)))


@pytest.mark.usefixtures("as_in_a_deployment")
@pytest.mark.parametrize("own", [{"token": "secret"}, {}], ids=["token", "no token"])
@pytest.mark.parametrize("stolen", [{"token": "another"}, {"token": ""}, {}, {"token": 7}], ids=str)
def test_a_name_stays_with_its_first_node_while_that_one_is_away(registry, reported, own, stolen):
    grid = ChangingGrid({100: named("a", **own), 101: named("b"), 102: named("a", **stolen)})
    assert members(grid, registry, 100, 101) == {"a": 100, "b": 101}
    assert members(grid, registry, 101, 102) == {"b": 101}
    assert members(grid, registry, 100, 101, 102) == {"a": 100, "b": 101}
    ((name, reason),) = reported
    assert name == "node-102"  # a itself is not excluded
    assert "belongs to another node" in reason


@pytest.mark.usefixtures("as_in_a_deployment")
def test_a_node_that_was_restarted_gets_its_name_back_by_its_token(registry, reported):
    grid = ChangingGrid({100: named("a", token="secret"), 101: named("b"), 102: named("a", token="secret")})
    assert members(grid, registry, 100, 101) == {"a": 100, "b": 101}
    assert members(grid, registry, 101, 102) == {"a": 102, "b": 101}
    assert not reported


@pytest.mark.usefixtures("as_in_a_deployment")
def test_the_name_of_a_node_without_a_name_is_its_own_alone(registry, reported):
    grid = ChangingGrid({100: named("node-101"), 101: named("")})
    assert members(grid, registry, 100, 101) == {"node-101": 101}
    assert [name for name, _ in reported] == ["node-100"]


@pytest.mark.usefixtures("as_in_a_deployment")
def test_a_problem_is_not_reported_under_the_name_of_another_node(registry, reported):
    grid = ChangingGrid({100: named("a", token="secret"), 101: named("a", problem="a is evil")})
    members(grid, registry, 100)
    members(grid, registry, 100, 101)
    assert reported == [("node-101", "a is evil")]


@pytest.mark.usefixtures("as_in_a_deployment")
def test_a_stranger_with_a_problem_is_not_shown_under_the_name_of_a_contributor_that_was_never_there(
    registry, reported
):
    grid = ChangingGrid({100: named("a"), 101: named("hospital", problem="call 555 0100")})
    assert members(grid, registry, 100, 101) == {"a": 100}
    assert reported == [("node-101", "call 555 0100")]
    assert registry.excluded.keys() == {"node-101"}


@pytest.mark.usefixtures("as_in_a_deployment")
def test_a_member_that_gets_a_problem_keeps_its_name(registry, reported):
    grid = ChangingGrid({100: named("a", token="secret"), 101: named("b")})
    assert members(grid, registry, 100, 101) == {"a": 100, "b": 101}
    grid.nodes[102] = named("a", token="secret", problem="its base is gone")  # after a restart
    members(grid, registry, 101, 102)
    assert reported == [("a", "its base is gone")]


def test_in_a_simulation_nobody_needs_a_token(registry, reported):
    grid = ChangingGrid({100: named("a", token="one"), 101: named("b"), 102: named("a", token="two")})
    assert members(grid, registry, 100, 101) == {"a": 100, "b": 101}
    assert members(grid, registry, 101, 102) == {"a": 102, "b": 101}
    assert not reported


@pytest.mark.usefixtures("as_in_a_deployment")
def test_a_member_with_a_key_needs_no_token(reported, monkeypatch):
    monkeypatch.setattr(queries, "_NEW_NODE_WAIT", 0.2)
    known = {100: "a", 101: "b", 103: "a"}
    registry = QueriedNodes("config", lambda: known, lambda name, reason, received: reported.append((name, reason)))
    grid = ChangingGrid({100: named("a", token="x"), 101: named("a"), 103: named("a", token="y")})
    assert members(grid, registry, 100, 101) == {"a": 100}
    assert members(grid, registry, 103) == {"a": 103}
    assert reported == [("b", "its key belongs to 'b', and it may only join under that name")]


@pytest.mark.usefixtures("as_in_a_deployment")
def test_a_query_says_what_the_run_freezes_and_nothing_else_of_it(registry):
    asked = []

    def answer(message):
        asked.append({key: dict(record) for key, record in message.content.items()})
        return named("a")(message)

    members(ChangingGrid({100: answer}), registry, 100)
    frozen = {"finetune.freeze": "embeddings", "frozen-sha256": "0a1b"}
    registry.begin(None, {**frozen, "finetune.epochs": 3})
    members(ChangingGrid({101: answer}), registry, 101)
    assert asked == [{}, {"config": frozen}]


@pytest.mark.parametrize(("is_simulation", "at_once"), [(True, 4), (False, 50)])
def test_only_a_simulation_has_few_queries_at_a_time(registry, monkeypatch, is_simulation, at_once):
    monkeypatch.setattr(queries, "SHORT_MESSAGES_AT_ONCE", 4)
    monkeypatch.setattr(ChangingGrid, "is_simulation", is_simulation)
    monkeypatch.setattr(queries, "poll_interval", lambda grid: 0.01)
    grid = ChangingGrid({number: named(f"n{number}") for number in range(100, 150)})
    pulled = grid.pull_messages
    waiting = []

    def pull(message_ids):
        waiting.append(len(registry._queries))
        return pulled(message_ids)

    monkeypatch.setattr(grid, "pull_messages", pull)
    assert len(members(grid, registry, *range(100, 150))) == 50
    assert max(waiting) == at_once


@pytest.mark.usefixtures("as_in_a_deployment")
def test_a_member_that_is_connected_and_silent_is_named_until_it_answers(reported, monkeypatch):
    monkeypatch.setattr(queries, "_NEW_NODE_WAIT", 0.1)
    monkeypatch.setattr(queries, "_RETRY_INTERVAL", 0.0)
    registry = QueriedNodes("config", lambda: {100: "a", 101: "b"}, lambda *values: reported.append(values))
    asked = []

    def silent(message):
        asked.append(message.metadata.message_id)
        return None if len(set(asked)) < 3 else named("b")(message)

    grid = ChangingGrid({100: named("a"), 101: silent, 102: lambda message: None})
    registry.begin(0.2, {})
    reason = "it is connected, but did not answer the server's query within 0.2 s"
    deadline = time.monotonic() + 20
    while "b" not in members(grid, registry, 100, 101, 102):
        assert time.monotonic() < deadline
        assert registry.excluded in ({}, {"b": reason})
        time.sleep(0.05)
    assert reported == [("b", reason, False)]
    assert registry.excluded == {}


def test_nodes_that_are_known_are_not_queried(registry):
    grid = ChangingGrid({100: named("a"), 101: named("b"), 102: named("c")})
    known = [Member(100, "a", simulated_nodes=3), Member(101, "b", seen=False, simulated_nodes=3)]
    registry.admit(known)
    assert members(grid, registry, 100, 101, 102) == {"a": 100, "b": 101, "c": 102}
    assert [message.metadata.dst_node_id for message in grid.sent] == [102]
    assert not registry.connected_nodes(grid)["b"].seen
