"""Nodes evaluate the bases."""

import numpy as np
import pytest
from fake_grid import SHAPE, FakeGrid, node
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from strategy_runs import run_strategy, trained_nodes, zero_arrays

from coldfusion_fl.errors import ErrorCode, RunFolderError
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.strategies import ColDFusion
from coldfusion_fl.strategies.rounds.evaluation import mean_scores


def test_unseen_tasks_evaluate_and_never_contribute():
    _, _, grid = run_strategy([node("a"), node("b"), node("u", seen=False)], rounds=3, evaluate_every=2)
    assert trained_nodes(grid) == {100, 101}
    asked = [
        (m.content["config"]["coldfusion.round"], m.content["config"]["coldfusion.modes"])
        for m in grid.sent
        if m.metadata.message_type == "evaluate" and m.metadata.dst_node_id == 102
    ]
    assert asked == [(0, "frozen,few-shot"), (2, "frozen"), (3, "frozen,few-shot")]


def test_a_node_that_cannot_evaluate_does_not_stop_the_run(ledger):
    run_strategy([node("a"), node("b", scores=False)], ledger=ledger)
    assert ledger.load_scores(1).keys() == {"a"}


def test_scores_count_once_and_only_from_the_nodes_that_were_asked(ledger):
    def evaluating(name, *more, **metrics):
        def answer(message):
            if message.metadata.message_type != "evaluate":
                return node(name)(message)
            metrics_record = MetricRecord({"frozen": 50.0, "num-examples": 9, **metrics})
            config = ConfigRecord({"metric": "accuracy", "seen": True, "test-rows-hash": "ab12"})
            return [*more, RecordDict({"metrics": metrics_record, "config": config})]  # the last one is taken first

        return answer

    other = Message(RecordDict({"metrics": MetricRecord({"frozen": 1e9})}), dst_node_id=100, message_type="evaluate")
    again = RecordDict({"metrics": MetricRecord({"frozen": 1e9})})
    nodes = [evaluating("a", again, head=1.0, metric=2.0, seen=3), evaluating("b", other)]
    _, result, _ = run_strategy(nodes, ledger=ledger)
    assert result.evaluate_metrics_clientapp[1]["frozen"] == 50.0
    for found in ledger.load_scores(1).values():
        assert found.pop("test-rows-hash") == "ab12"
        assert found == {"metric": "accuracy", "seen": True, "frozen": 50.0, "num-examples": 9}


def test_a_score_that_is_not_a_number_is_not_saved(ledger):
    def nan(message):
        if message.metadata.message_type != "evaluate":
            return node("a")(message)
        return RecordDict({"metrics": MetricRecord({"frozen": float("nan"), "num-examples": 9})})

    run_strategy([nan, node("b")], ledger=ledger)
    assert "frozen" not in ledger.load_scores(1).get("a", {})
    assert "a" in [event.name for event in ledger.events() if event.kind == "score-failed" and event.round == 1]


def test_only_what_can_be_an_error_of_a_difference_is_kept(ledger):
    def reporting(name, error):
        def answer(message):
            if message.metadata.message_type != "evaluate":
                return node(name)(message)
            return RecordDict({"metrics": MetricRecord({"frozen": 50.0, "frozen-difference-error": error})})

        return answer

    errors = {"a": 1.5, "b": -1.0, "c": 1e9, "d": float("inf"), "e": 0.0}
    nodes = [reporting(*item) for item in errors.items()]
    _, result, _ = run_strategy(nodes, ledger=ledger, evaluate_metrics_aggr_fn=mean_scores)
    kept = {name: found.get("frozen-difference-error") for name, found in ledger.load_scores(1).items()}
    assert kept == {"a": 1.5, "b": None, "c": None, "d": None, "e": 0.0}
    assert dict(result.evaluate_metrics_clientapp[1]) == {"frozen": 50.0}  # their mean would be no error of the mean


def evaluated_values(grid, name=100):
    """The mean weights that a node was sent for evaluation, by round."""
    return {
        m.content["config"]["coldfusion.round"]: float(m.content["arrays"]["w"].numpy().mean())
        for m in grid.sent
        if m.metadata.message_type == "evaluate" and m.metadata.dst_node_id == name
    }


def test_the_nodes_evaluate_what_the_run_would_deliver_after_each_round(ledger):
    """Bases 0, 1, 2, their averages 0, 0.5, 1.25, and half of these with the first base."""
    last, _, grid = run_strategy([node("a"), node("b")], rounds=2, ledger=ledger, ema=0.5, blend=0.5)
    assert evaluated_values(grid) == {0: 0, 1: 0.25, 2: 0.625}
    assert {number: ledger.load_scores(number)["a"]["frozen"] for number in (0, 1, 2)} == evaluated_values(grid)
    assert last[0, 0] == 2  # the rounds go on from the bases


def test_without_an_average_the_nodes_evaluate_the_bases():
    _, _, grid = run_strategy([node("a"), node("b")], rounds=2)
    assert evaluated_values(grid) == {0: 0, 1: 1, 2: 2}


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_a_resumed_run_evaluates_and_delivers_the_same_average(tmp_path, stop):
    def run(folder, *rounds):
        for number in rounds:
            ledger = Ledger.open(tmp_path / folder)
            strategy = ColDFusion(
                contributor_names="query", min_available_nodes=2, ema=0.5, blend=0.5, ledger=ledger, keep_last=1
            )
            strategy.start(FakeGrid({100: node("a"), 101: node("b")}), zero_arrays(), num_rounds=number, timeout=0.5)
        return [ledger.load_scores(number) for number in ledger.rounds()], strategy.result["w"].tobytes()

    assert run("resumed", stop, 3) == run("unbroken", 3)


def test_an_average_that_needs_a_removed_first_base_is_reported_at_the_resume(ledger):
    settings = {"ema": 0.5, "blend": 0.5, "keep_last": 1, "min_available_nodes": 2, "ledger": ledger}
    grid, other = FakeGrid({100: node("a"), 101: node("b")}), ArrayRecord({"w": Array(np.ones(SHAPE, np.float32))})
    ColDFusion(contributor_names="query", **settings).start(grid, zero_arrays(), num_rounds=1, timeout=0.5)
    with pytest.raises(RunFolderError, match="pass the original model") as error:
        ColDFusion(contributor_names="query", **settings).start(grid, other, num_rounds=2, timeout=0.5)
    assert error.value.code == ErrorCode.RUN_CHANGED
