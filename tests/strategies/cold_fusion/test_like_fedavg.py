"""A project that changes FedAvg to ColDFusion: arguments, metrics, keys and messages mean what they meant."""

import logging
import time

import numpy as np
import pytest
from fake_grid import SHAPE, FakeGrid, node
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from hypothesis import given
from hypothesis import strategies as st
from strategy_runs import zero_arrays

from coldfusion_fl.errors import SettingsError
from coldfusion_fl.strategies import ColDFusion
from coldfusion_fl.strategies.rounds.metrics import weighted_metrics


class PollingGrid(FakeGrid):
    """All replies are there at once; the polls are counted."""

    polls = 0

    def has_arrived(self, message):
        return True

    def pull_messages(self, message_ids):
        self.polls += 1
        return super().pull_messages(message_ids)


def project_node(value, examples, **metrics):
    """A client of a project: it knows nothing of this package."""

    def answer(message):
        kind = message.metadata.message_type
        if kind == "query":
            return Error(code=2, reason="ValueError: No query function registered with name 'default'")
        record = MetricRecord({"num-examples": examples, **metrics})
        if kind == "evaluate":
            return RecordDict({"metrics": record})
        base = message.content["arrays"]["w"].numpy()
        return RecordDict({"arrays": ArrayRecord({"w": Array(base + np.float32(value))}), "metrics": record})

    return answer


def start(strategy, nodes, rounds=1, config=None):
    grid = PollingGrid(dict(enumerate(nodes, start=100)))
    result = strategy.start(
        grid, zero_arrays(), num_rounds=rounds, timeout=5, train_config=config, evaluate_config=config
    )
    return result, grid


def sent(grid, kind):
    return [message for message in grid.sent if message.metadata.message_type == kind]


def public(metrics):
    """The metrics without those that this package adds."""
    return {key: value for key, value in metrics.items() if not key.startswith("coldfusion.")}


def test_equal_weighting_gives_fedavgs_arrays_and_metrics():
    nodes = [
        project_node(value, examples, acc=acc, losses=[1.0, 2.0 * acc], count=3)
        for value, examples, acc in ((1.5, 10, 1), (2.25, 30, 0.5), (-1.0, 60, 0.25))
    ]
    ours, _ = start(ColDFusion(fusion="weighted-mean", contributors_per_round=3, min_available_nodes=3), nodes, 3)
    theirs, _ = start(FedAvg(min_available_nodes=3), nodes, 3)
    assert np.allclose(ours.arrays["w"].numpy(), theirs.arrays["w"].numpy(), atol=1e-6)
    for number in (1, 2, 3):
        for name in ("train_metrics_clientapp", "evaluate_metrics_clientapp"):
            mine, other = (getattr(result, name)[number] for result in (ours, theirs))
            assert public(mine).keys() == other.keys()
            for key, value in other.items():
                assert mine[key] == pytest.approx(value), (name, key)


def test_integers_count_as_metrics():
    metrics = weighted_metrics(
        [RecordDict({"m": MetricRecord({"num-examples": 5, "acc": acc})}) for acc in (1, 0.5, 0.5, 0.5)], "num-examples"
    )
    assert dict(metrics) == {"acc": 0.625}


@given(
    st.lists(st.tuples(st.integers(200, 1000), st.floats(-1e6, 1e6), st.integers(-1000, 1000)), min_size=1, max_size=6)
)
def test_metrics_are_those_of_fedavg_where_all_nodes_report_the_same(reported):
    contents = [RecordDict({"m": MetricRecord({"n": n, "x": x, "k": k, "list": [x, x + 1]})}) for n, x, k in reported]
    expected = FedAvg().train_metrics_aggr_fn(contents, "n")
    found = weighted_metrics(contents, "n")
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert np.allclose(found[key], value, rtol=1e-9, atol=1e-6)


def test_a_metric_that_some_nodes_lack_is_the_mean_over_the_others(caplog):
    contents = [
        RecordDict({"m": MetricRecord(values)})
        for values in ({"n": 1, "x": 1.0}, {"n": 3, "x": 2.0, "y": 4}, {"n": 4, "x": float("nan"), "y": 8})
    ]
    assert dict(weighted_metrics(contents, "n")) == {"x": 1.75, "y": pytest.approx(44 / 7)}
    assert dict(weighted_metrics(contents, "absent"))["n"] == pytest.approx(8 / 3)
    assert "Not every node reports 'absent'" in caplog.text


def test_own_functions_aggregate_the_metrics():
    def largest(contents, weighted_by_key):
        assert weighted_by_key == "rows"
        assert not any(isinstance(record, ArrayRecord) for content in contents for record in content.values())
        return MetricRecord({"largest": max(content["metrics"]["loss"] for content in contents)})

    functions = {"train_metrics_aggr_fn": largest, "evaluate_metrics_aggr_fn": largest}
    result, _ = start(ColDFusion(weighted_by_key="rows", **functions), [project_node(1, 1, loss=n) for n in (1.0, 3.0)])
    assert public(result.train_metrics_clientapp[1]) == dict(result.evaluate_metrics_clientapp[1]) == {"largest": 3.0}


def test_a_function_that_fails_does_not_end_the_run(caplog):
    def broken(contents, weighted_by_key):
        raise KeyError("loss")

    result, _ = start(ColDFusion(train_metrics_aggr_fn=broken), [project_node(1, 1), project_node(3, 1)])
    assert result.arrays["w"].numpy()[0, 0] == 2
    assert "The metrics of this round are left out, because broken failed" in caplog.text


def test_the_weight_of_a_weighted_mean_is_the_named_metric():
    nodes = [project_node(0, 1, rows=1), project_node(4, 1, rows=3)]
    result, _ = start(ColDFusion(fusion="weighted-mean", weighted_by_key="rows"), nodes)
    assert result.arrays["w"].numpy()[0, 0] == 3
    assert "weighted-mean(by=examples)" in str(ColDFusion(fusion="weighted-mean(by=examples)").pipeline.fusion)


@pytest.mark.parametrize(
    ("arguments", "trained", "evaluated"),
    [
        ({"fraction_train": 0.5, "fraction_evaluate": 0.3}, 10, 6),
        ({"fraction_train": 0.01, "fraction_evaluate": 0.01}, 2, 2),
        ({"fraction_train": 0.01, "min_train_nodes": 7, "fraction_evaluate": 0.01, "min_evaluate_nodes": 5}, 7, 5),
        ({"contributors_per_round": 3, "fraction_evaluate": 0.0}, 3, 0),
        ({"fraction_train": 0.0}, 0, 20),
        ({}, 8, 20),
    ],
)
def test_the_numbers_of_nodes_are_those_of_fedavg(arguments, trained, evaluated):
    nodes = [project_node(1, 1) for _ in range(20)]
    _, grid = start(ColDFusion(**arguments), nodes)
    assert len(sent(grid, "train")) == trained
    last = [m for m in sent(grid, "evaluate") if m.content["config"]["server-round"] == 1]
    assert len(last) == evaluated


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"fraction_train": 1.5}, "fraction_train must be a number from 0 to 1"),
        ({"fraction_evaluate": "half"}, "fraction_evaluate must be a number from 0 to 1"),
        ({"min_train_nodes": -1}, "min_train_nodes must be a whole number, at least 0"),
        ({"contributor_names": "roll-call"}, "contributor_names must be one of none, query, metrics"),
        ({"train_metrics_aggr_fn": 3}, "train_metrics_aggr_fn must be a function"),
    ],
)
def test_wrong_values_of_fedavgs_arguments_are_reported(wrong, message):
    with pytest.raises(SettingsError, match=message):
        ColDFusion(**wrong)


def test_one_node_is_enough_where_the_project_says_so():
    result, _ = start(ColDFusion(min_available_nodes=1, min_train_nodes=1), [project_node(3, 1)])
    assert result.arrays["w"].numpy()[0, 0] == 3


def test_nothing_of_the_projects_configuration_is_overwritten():
    config = ConfigRecord({"seed": 99, "modes": "fast", "compression": "zip", "server-round": 7, "lr": 0.1})
    kept = dict(config)
    strategy = ColDFusion(seed=5, compression="int8")
    _, grid = start(strategy, [project_node(1, 1), project_node(3, 1)], config=config)
    assert dict(config) == kept
    for message in [*sent(grid, "train"), *sent(grid, "evaluate")]:
        record = dict(message.content["config"])
        assert {key: record[key] for key in kept} == kept
        assert {key for key in record if key not in kept} <= {
            "coldfusion.round", "coldfusion.seed", "coldfusion.modes", "coldfusion.compression",
        }  # fmt: skip
        assert record["coldfusion.seed"] == 5


def test_a_metric_called_like_a_key_of_flower_means_nothing():
    nodes = [project_node(1, 1, **{"server-round": 40}), project_node(3, 1, **{"server-round": 2})]
    result, _ = start(ColDFusion(), nodes)
    assert result.arrays["w"].numpy()[0, 0] == 2
    assert result.train_metrics_clientapp[1]["server-round"] == 21


def test_no_node_is_queried_unless_asked_for():
    nodes = [project_node(1, 1), project_node(3, 1)]
    _, grid = start(ColDFusion(), nodes)
    assert not sent(grid, "query")
    _, grid = start(ColDFusion(contributor_names="query"), nodes)
    assert len(sent(grid, "query")) == 2


def test_names_come_from_the_replies_where_asked_for(ledger):
    def named(value, **config):
        plain = project_node(value, 1)

        def answer(message):
            content = plain(message)
            return RecordDict({**content, "about": ConfigRecord(config)}) if config else content

        return answer

    nodes = [named(1, name="hospital"), named(3, name="bank"), named(5), project_node(7, 1, **{"partition-id": 4})]
    strategy = ColDFusion(contributor_names="metrics", min_available_nodes=4, ledger=ledger)
    result, _ = start(strategy, nodes, rounds=2)
    names = {"hospital", "bank", "node-102", "partition-4"}
    for number in (1, 2):
        assert ledger.record(number).contributions.keys() == set(ledger.record(number).sampled) == names
    assert result.arrays["w"].numpy()[0, 0] == 8


def test_a_name_that_another_node_has_is_not_taken(ledger):
    def impostor(message):
        return RecordDict({**project_node(9, 1)(message), "about": ConfigRecord({"name": "bank"})})

    strategy = ColDFusion(contributor_names="metrics", ledger=ledger)
    start(strategy, [impostor, impostor], rounds=2)
    assert len(ledger.record(2).contributions) == 2
    assert "bank" in ledger.record(2).contributions


def test_a_project_without_an_evaluate_function_is_asked_once(caplog):
    caplog.set_level(logging.INFO)

    def trains_only(message):
        if message.metadata.message_type == "evaluate":
            return Error(code=2, reason="...ValueError: No evaluate function registered with name 'default'")
        return project_node(1, 1)(message)

    _, grid = start(ColDFusion(), [trains_only, trains_only], rounds=3)
    assert len(sent(grid, "evaluate")) == 2
    assert "have no function for evaluate messages" in caplog.text
    assert "could not evaluate" not in caplog.text


def test_start_logs_what_flowers_start_logs(caplog):
    caplog.set_level(logging.INFO)
    nodes = [project_node(1, 1, loss=0.5), project_node(3, 1, loss=1.5)]

    def lines(strategy):
        caplog.clear()
        grid = PollingGrid(dict(enumerate(nodes, start=100)))
        evaluate_fn = lambda server_round, arrays: MetricRecord({"central": 1.0})  # noqa: E731
        strategy.start(grid, zero_arrays(), num_rounds=1, timeout=5, evaluate_fn=evaluate_fn)
        return {record.msg for record in caplog.records if record.levelno == logging.INFO}

    # FedAvg's table of its sampling is the strategy's own.
    missing = lines(FedAvg()) - lines(ColDFusion())
    assert {line for line in missing if "├" not in line and "└──" not in line} == set()


def test_five_hundred_nodes_get_few_messages_and_each_is_polled_once():
    nodes = [project_node(1, 1) for _ in range(500)]
    strategy = ColDFusion(fraction_train=0.1, fraction_evaluate=0.02, min_available_nodes=500)
    result, grid = start(strategy, nodes, rounds=5)
    assert len(sent(grid, "evaluate")) == 50
    assert len(sent(grid, "train")) == 250
    assert grid.polls == len(grid.sent)
    assert result.arrays["w"].numpy()[0, 0] == 5


def test_a_run_can_be_ended_early():
    nodes = [project_node(1, 1, loss=2.0), project_node(3, 1, loss=2.0)]
    for should_stop in (
        lambda server_round, result: server_round == 2,
        lambda server_round: server_round == 2,
        lambda server_round, result: 2 in result.train_metrics_clientapp,
    ):
        grid = PollingGrid(dict(enumerate(nodes, start=100)))
        result = ColDFusion().start(grid, zero_arrays(), num_rounds=9, timeout=5, should_stop=should_stop)
        assert sorted(result.train_metrics_clientapp) == [1, 2]
    assert result.arrays["w"].numpy().shape == SHAPE


def test_the_nodes_of_a_mute_project_cost_no_more_than_the_rounds_timeout():
    began = time.monotonic()
    nodes = [node("a"), node("b"), lambda message: None]
    grid = PollingGrid(dict(enumerate(nodes, start=100)))
    strategy = ColDFusion(contributor_names="query", evaluate_every=-1)
    strategy.start(grid, zero_arrays(), num_rounds=2, timeout=0.5)
    assert time.monotonic() - began < 10
