"""Nodes evaluate the bases."""

from fake_grid import node
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from strategy_runs import run_strategy, trained_nodes


def test_unseen_tasks_evaluate_and_never_contribute():
    _, _, grid = run_strategy([node("a"), node("b"), node("u", seen=False)], rounds=3, evaluate_every=2)
    assert trained_nodes(grid) == {100, 101}
    asked = [
        (m.content["config"]["server-round"], m.content["config"]["modes"])
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
            config = ConfigRecord({"metric": "accuracy", "seen": True})
            return [*more, RecordDict({"metrics": metrics_record, "config": config})]  # the last one is taken first

        return answer

    other = Message(RecordDict({"metrics": MetricRecord({"frozen": 1e9})}), dst_node_id=100, message_type="evaluate")
    again = RecordDict({"metrics": MetricRecord({"frozen": 1e9})})
    nodes = [evaluating("a", again, head=1.0, metric=2.0, seen=3), evaluating("b", other)]
    _, result, _ = run_strategy(nodes, ledger=ledger)
    assert result.evaluate_metrics_clientapp[1]["frozen"] == 50.0
    for found in ledger.load_scores(1).values():
        assert found == {"metric": "accuracy", "seen": True, "frozen": 50.0, "num-examples": 9}
