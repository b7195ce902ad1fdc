"""Replies that cannot be read, as a hostile node can store them at the SuperLink."""

import io

import httpx
import numpy as np
import pytest
from fake_grid import FakeGrid, node
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from hostile.unreadable_replies import ODD, UNREADABLE, InflatingGrid, array_with, of_type
from strategy_runs import zero_arrays

from coldfusion_fl.strategies import ColDFusion

BAD = 101
BROKEN = array_with(arraychunk_ids=[7])


def run(ledger, nodes, changes, rounds=2, grid=None, **settings):
    """A run of a hostile node 101 among honest ones."""
    grid = grid or InflatingGrid(dict(enumerate(nodes, start=100)), changes)
    settings = {"contributors_per_round": 4, "min_available_nodes": len(nodes), **settings}
    strategy = ColDFusion(contributor_names="query", ledger=ledger, **settings)
    result = strategy.start(grid, zero_arrays(), num_rounds=rounds, timeout=2)
    return result.arrays["w"].numpy()[0, 0]


def honest_and_hostile():
    return [node("a", 1), node("bad", 50), node("c", 3)]


@pytest.mark.parametrize("change", [*UNREADABLE.values(), *ODD.values()], ids=[*UNREADABLE, *ODD])
def test_it_is_rejected_by_name_and_the_round_goes_on(ledger, change):
    assert run(ledger, honest_and_hostile(), {BAD: of_type("train", change)}) == 4
    for number in (1, 2):
        record = ledger.record(number)
        (rejection,) = record.rejected
        assert (rejection.name, rejection.counts_toward_exclusion, rejection.received) == ("bad", True, True)
        assert "cannot be read" in rejection.reason
        assert record.contributions.keys() == {"a", "c"}


def test_a_shape_that_needs_terabytes_allocates_nothing(ledger):
    def huge(message):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**12,)})
        array = Array("float32", (10**12,), "numpy.ndarray", header.getvalue() + bytes(64))
        return RecordDict({"arrays": ArrayRecord({"w": array}), "metrics": MetricRecord({"loss": 1.0})})

    run(ledger, [node("a"), node("bad", train=huge), node("c")], {}, rounds=1)
    (rejection,) = ledger.record(1).rejected
    assert rejection.name == "bad"
    assert "declares 4000000000000 bytes, but 64" in rejection.reason


def test_its_sender_is_excluded_in_the_end(ledger):
    run(ledger, honest_and_hostile(), {BAD: of_type("train", BROKEN)}, rounds=3, max_rejections=2)
    assert ledger.record(3).sampled == ["a", "c"]
    assert "bad" in ledger.record(3).excluded


def test_an_answer_to_a_query_excludes_its_node_until_it_can_be_read(ledger):
    broken = UNREADABLE["the message has no content and no error"]
    run(ledger, honest_and_hostile(), {BAD: of_type("query", broken)}, min_available_nodes=2)
    assert ledger.record(2).sampled == ["a", "c"]
    (excluded,) = [event for event in ledger.events() if event.kind == "contributor-excluded"]
    assert excluded.name == f"node-{BAD}"
    assert "cannot be read" in excluded.reason


def test_an_evaluation_fails_for_its_node_alone(ledger):
    broken = UNREADABLE["the metrics are no protobuf"]
    run(ledger, honest_and_hostile(), {BAD: of_type("evaluate", broken)}, rounds=1)
    assert ledger.load_scores(1).keys() == {"a", "c"}
    failed = {(event.name, event.round) for event in ledger.events() if event.kind == "score-failed"}
    assert failed == {("bad", 0), ("bad", 1)}


@pytest.mark.parametrize("discount", [0.0, 0.5])
def test_a_late_one_is_rejected_by_name(ledger, discount):
    class Late(InflatingGrid):
        def has_arrived(self, message):
            is_late = message.metadata.dst_node_id == BAD and message.metadata.message_type == "train"
            rounds = [m.content["config"]["coldfusion.round"] for m in self.sent if m.metadata.message_type == "train"]
            return not is_late or max(rounds) > message.content["config"]["coldfusion.round"]

    nodes = honest_and_hostile()
    grid = Late(dict(enumerate(nodes, start=100)), {BAD: of_type("train", BROKEN)})
    run(ledger, nodes, {}, grid=grid, staleness_discount=discount, evaluate_every=-1)
    (rejection,) = [one for one in ledger.record(2).rejected if one.received]
    assert (rejection.name, rejection.counts_toward_exclusion) == ("bad", True)
    assert "cannot be read" in rejection.reason


def test_a_run_that_polls_many_small_replies_loses_only_the_unreadable_ones(ledger):
    nodes = [node(f"n{number}") for number in range(20)]
    changes = {100 + number: of_type("train", BROKEN) for number in range(0, 20, 5)}
    run(ledger, nodes, changes, rounds=1, contributors_per_round=20)
    record = ledger.record(1)
    assert {one.name for one in record.rejected} == {"n0", "n5", "n10", "n15"}
    assert len(record.contributions) == 16


@pytest.mark.parametrize("failure", [httpx.ConnectError("refused"), ConnectionResetError(), httpx.ReadTimeout("slow")])
def test_a_failure_of_the_connection_is_nobodys_fault(ledger, failure):
    class Unreachable(FakeGrid):
        def pull_messages(self, message_ids):
            if any(self._waiting[one].metadata.message_type == "train" for one in message_ids if one in self._waiting):
                raise failure
            return super().pull_messages(message_ids)

    nodes = [node("a"), node("b")]
    with pytest.raises(type(failure)):
        run(ledger, nodes, {}, grid=Unreachable(dict(enumerate(nodes, start=100))))


def test_the_end_of_the_run_at_the_superlink_is_nobodys_fault(ledger):
    from flwr.supercore.run import RunNotRunningException

    class Stopped(FakeGrid):
        def pull_messages(self, message_ids):
            raise RunNotRunningException

    nodes = [node("a"), node("b")]
    with pytest.raises(RunNotRunningException):
        run(ledger, nodes, {}, grid=Stopped(dict(enumerate(nodes, start=100))))


def test_a_full_disk_is_nobodys_fault(ledger, monkeypatch):
    def full(self, encoder):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("coldfusion_fl.arrays.disk_arrays.ArrayFile.put", full)
    with pytest.raises(OSError, match="No space left"):
        run(ledger, [node("a"), node("b")], {})


def test_what_nobody_foresaw_is_rejected(ledger, monkeypatch):
    def deep(base, encoder):
        raise RecursionError("maximum recursion depth exceeded")

    monkeypatch.setattr("coldfusion_fl.strategies.rounds.validation.quick_update_norm", deep)
    run(ledger, [node("a"), node("b")], {}, rounds=1)
    assert [one.counts_toward_exclusion for one in ledger.record(1).rejected] == [True, True]
