"""A round: sample, train, fuse, save. The nodes are functions in this process."""

import subprocess
import sys

import numpy as np
import pytest
from fake_grid import SHAPE, FakeGrid, contribution, failing_training, node
from flwr.app import ConfigRecord, Error, RecordDict
from strategy_runs import run_strategy, zero_arrays

from coldfusion_fl.errors import RunError
from coldfusion_fl.strategies import ColDFusion


def test_the_ledger_records_how_the_run_ended(ledger):
    run_strategy([node("a"), node("b")], ledger=ledger)
    assert ledger.state.state == "finished"
    with pytest.raises(RunError):
        run_strategy([node("a")], rounds=3, ledger=ledger, node_timeout=0.1)
    assert ledger.state.state == "failed"
    assert "connected: 1" in ledger.state.reason
    run_strategy([node("a"), node("b")], rounds=3, ledger=ledger)
    assert (ledger.state.state, ledger.state.reason) == ("finished", None)


def test_the_next_base_is_the_uniform_mean():
    fused, result, _ = run_strategy([node("a", 1), node("b", 2), node("c", 6)], rounds=2)
    assert fused.tolist() == [[6, 6, 6], [6, 6, 6]]  # twice the mean of 3
    assert result.train_metrics_clientapp[2]["coldfusion.contributions"] == 3
    assert result.evaluate_metrics_clientapp[0]["frozen"] == 0
    assert result.evaluate_metrics_clientapp[2]["frozen"] == 6


def test_the_result_does_not_depend_on_the_order_of_replies():
    values = [np.float32(v) for v in np.random.default_rng(0).normal(size=7)]
    nodes = [node(str(number), value) for number, value in enumerate(values)]
    results = [run_strategy(nodes, rounds=3, contributors_per_round=5, order_seed=seed)[0] for seed in range(5)]
    assert len({fused.tobytes() for fused in results}) == 1


def test_too_few_contributions_keep_the_base(ledger):
    fused, result, _ = run_strategy([node("a", 2), node("b", train=failing_training)], ledger=ledger, rounds=2)
    assert fused.tolist() == np.zeros(SHAPE).tolist()
    assert not ledger.record(1).fused
    assert ledger.record(1).kept_because == "1 contribution passed the screening, but min-contributions is 2"
    assert [e.kind for e in ledger.events()].count("base-kept") == 2
    assert ledger.load_base(2)["w"].tolist() == np.zeros(SHAPE).tolist()
    assert result.train_metrics_clientapp[2]["coldfusion.contributions"] == 1


def test_each_round_is_saved_in_the_ledger(ledger):
    run_strategy([node("a", 1), node("b", 3)], rounds=2, ledger=ledger)
    assert [ledger.load_base(n)["w"][0, 0] for n in ledger.rounds()] == [0, 2, 4]
    assert ledger.load_scores(2)["a"]["frozen"] == 4


def test_a_client_without_a_query_function_takes_part():
    def foreign(message):
        if message.metadata.message_type == "train":
            return contribution(message.content["arrays"]["w"].numpy() + np.float32(1))
        return Error(code=2, reason="ValueError: No query function registered with name 'default'")

    fused, _, _ = run_strategy([foreign, foreign])
    assert fused.tolist() == np.ones(SHAPE).tolist()


def test_each_round_records_the_missing_contributors(ledger):
    nodes = {100: node("a"), 101: node("b"), 102: node("c")}
    grid = FakeGrid(nodes)
    strategy = ColDFusion(contributor_names="query", ledger=ledger, contributors_per_round=2, min_available_nodes=3)
    asked = strategy.configure_train

    def configure_train(server_round, *args):
        if server_round == 2:
            del nodes[101]
        if server_round == 3:
            nodes[103] = node("b")
        return asked(server_round, *args)

    strategy.configure_train = configure_train
    strategy.start(grid, zero_arrays(), num_rounds=3, timeout=0.5)
    assert [ledger.record(number).missing for number in (1, 2, 3)] == [[], ["b"], []]


def test_importing_the_strategy_loads_neither_torch_nor_transformers():
    code = (
        "import sys; from coldfusion_fl.strategies import ColDFusion; "
        "sys.exit(bool({'torch', 'transformers', 'sklearn', 'pandas', 'safetensors'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_longest_training_is_sent_first(ledger):
    """By the seconds that each reported of its last training; a contributor that reported none comes first."""
    took = {"a": 3.0, "b": 9.0, "c": None, "d": 5.0}

    def member(name):
        def train(message):
            content = contribution(np.ones(SHAPE, np.float32))
            if took[name]:
                content["metrics"]["seconds"] = took[name]
            return content

        return node(name, train=train)

    _, _, grid = run_strategy(list(map(member, took)), rounds=2, ledger=ledger)
    sent = [message.metadata.dst_node_id for message in grid.sent if message.metadata.message_type == "train"]
    assert sent[:4] == [100, 101, 102, 103]  # nothing is known
    assert sent[4:] == [102, 101, 103, 100]


def test_a_node_that_returns_takes_part_in_the_next_round_and_is_queried_again(ledger, monkeypatch):
    answers = iter([{"name": "b"}])
    plain = node("b", 3)

    def slow_to_answer(message):
        if message.metadata.message_type != "query":
            return plain(message)
        about = next(answers, None)
        return about and RecordDict({"config": ConfigRecord(about)})

    grid = FakeGrid({100: node("a", 1), 101: slow_to_answer})
    strategy = ColDFusion(
        contributor_names="query", min_available_nodes=2, min_contributions=1, evaluate_every=-1, ledger=ledger
    )
    started = lambda number: any(e.kind == "round-started" and e.round == number for e in ledger.events())  # noqa: E731
    monkeypatch.setattr(grid, "get_node_ids", lambda: [100] if started(1) and not started(2) else [100, 101])
    strategy.start(grid, zero_arrays(), num_rounds=3, timeout=5)
    assert [ledger.record(number).sampled for number in (1, 2, 3)] == [["a", "b"], ["a"], ["a", "b"]]
    assert ledger.record(2).missing == ["b"]
    queries = [m for m in grid.sent if m.metadata.message_type == "query" and m.metadata.dst_node_id == 101]
    assert len(queries) == 2
