"""A subclass overrides a hook, as with FedAvg, and other loops than `start` call the hooks."""

import numpy as np
import pytest
from fake_grid import FakeGrid, contribution, node
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp.strategy import FedAvg, Strategy
from strategy_runs import trained_nodes, zero_arrays

from coldfusion_fl.strategies import ColDFusion


def start(strategy, nodes, rounds=2):
    grid = FakeGrid(dict(enumerate(nodes, start=100)))
    return strategy.start(grid, zero_arrays(), num_rounds=rounds, timeout=5), grid


def start_in_flowers_loop(strategy, nodes, rounds=2):
    grid = FakeGrid(dict(enumerate(nodes, start=100)))
    return Strategy.start(strategy, grid, zero_arrays(), num_rounds=rounds, timeout=5), grid


LOOPS = [start, start_in_flowers_loop]


def weight(result):
    return result.arrays["w"].numpy()[0, 0]


def test_a_subclass_chooses_the_contributors(ledger):
    class FirstByName(ColDFusion):
        def sample(self, names, server_round):
            return sorted(names)[: self.settings.contributors_per_round]

    strategy = FirstByName(contributor_names="query", contributors_per_round=2, min_available_nodes=3, ledger=ledger)
    result, grid = start(strategy, [node("c", 9), node("a", 1), node("b", 3)])
    assert [ledger.record(number).sampled for number in (1, 2)] == [["a", "b"]] * 2
    assert trained_nodes(grid) == {101, 102}
    assert weight(result) == 4


def test_a_subclass_changes_what_is_aggregated(ledger):
    class Halved(ColDFusion):
        def aggregate_train(self, server_round, replies):
            arrays, metrics = super().aggregate_train(server_round, replies)
            metrics["halved"] = 1
            return type(arrays)({"w": type(arrays["w"])(arrays["w"].numpy() / 2)}), metrics

    strategy = Halved(contributor_names="query", contributors_per_round=2, ledger=ledger)
    result, _ = start(strategy, [node("a", 1), node("b", 3)])
    assert result.train_metrics_clientapp[2]["halved"] == 1
    # The first base is (0 + 2) / 2, the second (1 + 2) / 2; what the subclass returns is saved.
    assert ledger.load_base(1)["w"][0, 0] == 1
    assert np.allclose(ledger.load_base(2)["w"], 1.5)


class Counting(ColDFusion):
    """Looks at the replies before and after the aggregation."""

    seen: list[int]

    def aggregate_train(self, server_round, replies):
        self.seen = [len(replies), *(1 for reply in replies if reply.has_content())]
        found = super().aggregate_train(server_round, replies)
        self.seen.append(sum(1 for _ in replies))
        return found

    def aggregate_evaluate(self, server_round, replies):
        self.scored = len(replies)
        return super().aggregate_evaluate(server_round, replies)


class Sorting(ColDFusion):
    def aggregate_train(self, server_round, replies):
        return super().aggregate_train(server_round, sorted(replies, key=lambda reply: reply.metadata.src_node_id))


class Filtering(ColDFusion):
    """Leaves out the reply of node 102."""

    def aggregate_train(self, server_round, replies):
        return super().aggregate_train(server_round, (r for r in replies if r.metadata.src_node_id != 102))


@pytest.mark.parametrize("run", LOOPS)
def test_a_subclass_may_look_at_the_replies_sort_them_and_leave_some_out(run):
    nodes = [node("a", 1), node("b", 3), node("c", 8)]
    for kind, expected in ((Counting, 8.0), (Sorting, 8.0), (Filtering, 4.0)):
        strategy = kind(min_available_nodes=3)
        result, _ = run(strategy, nodes)
        assert weight(result) == expected, kind
        if kind is Counting:
            assert (strategy.seen, strategy.scored) == ([3, 1, 1, 1, 3], 3)


@pytest.mark.parametrize(
    ("run", "reason", "level"),
    [
        (start, "the strategy left its reply out of the aggregation", "INFO"),
        # Flower's own loop does not say which replies arrived, nor how long it waited.
        (start_in_flowers_loop, "it did not answer, or the strategy left its reply out", "WARNING"),
    ],
)
def test_a_reply_that_a_subclass_leaves_out_is_recorded_as_such(run, reason, level, ledger, caplog):
    strategy = Filtering(min_available_nodes=3, max_rejections=1, staleness_discount=0.5, ledger=ledger)
    run(strategy, [node("a", 1), node("b", 3), node("c", 8)])
    assert [(one.name, one.reason) for one in ledger.record(2).rejected] == [("node-102", reason)]
    assert [record.levelname for record in caplog.records if reason in record.getMessage()] == [level] * 2


class OwnHooks:
    """Builds its messages without `super()`: a learning rate for each node. Any strategy may be mixed in."""

    def configure_train(self, server_round, arrays, config, grid):
        return [
            Message(
                RecordDict({"arrays": arrays, "config": ConfigRecord({"lr": float(node_id)})}),
                dst_node_id=node_id,
                message_type="train",
            )
            for node_id in sorted(grid.get_node_ids())[:2]
        ]

    def configure_evaluate(self, server_round, arrays, config, grid):
        if server_round == 0:
            return []
        content = RecordDict({"arrays": arrays, "config": config})
        return [Message(content, dst_node_id=100, message_type="evaluate")]


class OwnMessages(ColDFusion):
    configure_train = OwnHooks.configure_train
    configure_evaluate = OwnHooks.configure_evaluate


class ChangedMessages(ColDFusion):
    """Changes the messages of `super()`, and leaves the last one out."""

    def configure_train(self, server_round, arrays, config, grid):
        config["round-of-project"] = server_round
        messages = sorted(
            super().configure_train(server_round, arrays, config, grid), key=lambda m: m.metadata.dst_node_id
        )
        return [
            Message(
                RecordDict({"arrays": message.content["arrays"], "config": ConfigRecord({"lr": 0.5})}),
                dst_node_id=message.metadata.dst_node_id,
                message_type="train",
            )
            for message in messages[:2]
        ]


@pytest.mark.parametrize("run", LOOPS)
@pytest.mark.parametrize("kind", [OwnMessages, ChangedMessages])
def test_a_subclass_builds_its_own_messages(kind, run, ledger):
    strategy = kind(min_available_nodes=3, ledger=ledger)
    result, grid = run(strategy, [node("a", 1), node("b", 3), node("c", 100)])
    assert weight(result) == 4
    assert trained_nodes(grid) == {100, 101}
    record = ledger.record(2)
    assert record.sampled == ["node-100", "node-101"]
    assert (record.rejected, record.contributions.keys()) == ([], {"node-100", "node-101"})
    assert ledger.load_base(1)["w"][0, 0] == 2
    if kind is OwnMessages:
        assert ledger.load_scores(2).keys() == {"node-100"}


class AddedKey:
    """Changes the messages of the strategy that it is mixed with."""

    def configure_train(self, server_round, arrays, config, grid):
        config["added"] = True
        return super().configure_train(server_round, arrays, config, grid)


class OwnHooksColDFusion(OwnHooks, ColDFusion):
    pass


class AddedKeyColDFusion(AddedKey, OwnHooksColDFusion):
    pass


@pytest.mark.parametrize("run", LOOPS)
@pytest.mark.parametrize("kind", [OwnHooksColDFusion, AddedKeyColDFusion])
def test_the_hooks_may_come_from_a_class_that_is_mixed_in(kind, run, ledger):
    result, grid = run(kind(min_available_nodes=3, ledger=ledger), [node("a", 1), node("b", 3), node("c", 100)])
    assert weight(result) == 4
    assert trained_nodes(grid) == {100, 101}
    record = ledger.record(2)
    assert record.sampled == ["node-100", "node-101"]
    assert (record.rejected, record.contributions.keys()) == ([], {"node-100", "node-101"})
    assert ledger.load_scores(2).keys() == {"node-100"}


@pytest.mark.parametrize("run", LOOPS)
def test_a_subclass_uses_the_helpers_of_fedavg(run):
    class OwnAverage(ColDFusion):
        def configure_train(self, server_round, arrays, config, grid):
            content = RecordDict({self.arrayrecord_key: arrays, self.configrecord_key: config})
            return self._construct_messages(content, list(grid.get_node_ids()), "train")

        def aggregate_train(self, server_round, replies):
            valid, _ = self._check_and_log_replies(replies, is_train=True)
            return FedAvg.aggregate_train(self, server_round, valid)

    result, _ = run(OwnAverage(), [node("a", 1), node("b", 3)])
    assert weight(result) == 4


@pytest.mark.parametrize("run", LOOPS)
def test_a_strategy_that_is_used_twice_starts_afresh(run):
    strategy = ColDFusion(server_optimizer="nesterov", max_rejections=1)
    nodes = [node("a", 1), node("b", 3)]
    first, second = (weight(run(strategy, nodes)[0]) for _ in range(2))
    assert first == second


def test_without_a_timeout_all_replies_are_waited_for():
    result = ColDFusion().start(
        FakeGrid({100: node("a", 1), 101: node("b", 3)}), zero_arrays(), num_rounds=1, timeout=None
    )
    assert weight(result) == 2


def test_own_arrays_under_another_key_are_taken():
    def renamed(message):
        content = contribution(message.content["arrays"]["w"].numpy() + np.float32(1))
        return RecordDict({"my-model": content["arrays"], "metrics": content["metrics"]})

    def two_records(message):
        content = renamed(message)
        return RecordDict({**content, "other": ArrayRecord(dict(content["my-model"]))})

    nodes = [node("a", train=renamed), node("b", train=renamed), node("c", train=two_records)]
    strategy = ColDFusion(min_available_nodes=3)
    result, _ = start(strategy, nodes, rounds=1)
    assert weight(result) == 1
    (rejection,) = strategy.round.record.rejected
    assert "has no ArrayRecord with the key 'arrays'" in rejection.reason


class SetsAttributes(ColDFusion):
    """Sets attributes of FedAvg in its constructor and in each round, as a subclass of FedAvg may."""

    def __init__(self):
        super().__init__()
        self.min_available_nodes = 4
        self.arrayrecord_key, self.configrecord_key = "model", "setup"

    def configure_train(self, server_round, arrays, config, grid):
        self.fraction_train = 1.0 if server_round == 1 else 0.5
        return super().configure_train(server_round, arrays, config, grid)


@pytest.mark.parametrize("run", LOOPS)
def test_attributes_of_fedavg_count_when_they_are_used(run):
    def train(message):
        assert message.content["setup"]["server-round"] in (1, 2)
        content = contribution(message.content["model"]["w"].numpy() + np.float32(1))
        return RecordDict({"model": content["arrays"], "metrics": content["metrics"]})

    strategy = SetsAttributes()
    strategy.fraction_evaluate = 0.0
    result, grid = run(strategy, [node(name, train=train) for name in "abcd"])
    assert [message.metadata.message_type for message in grid.sent] == ["train"] * 6
    assert weight(result) == 2
    assert strategy.participants.min_available_nodes == 4
