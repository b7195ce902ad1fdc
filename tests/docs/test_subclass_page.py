"""The subclasses on the page about subclassing run."""

import re

import pytest
from fake_grid import FakeGrid, contribution, node, set_task_identity
from strategy_runs import trained_nodes, zero_arrays


@pytest.fixture
def classes(request, monkeypatch):
    from flwr.supercore.task_identity import TaskIdentity

    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, None)
    set_task_identity()
    page = (request.config.rootpath / "docs" / "how-to" / "subclass.md").read_text(encoding="utf-8")
    found = {}
    exec("\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), found)
    return found


def run(strategy, nodes, rounds=1):
    grid = FakeGrid(dict(enumerate(nodes, start=100)))
    return strategy.start(grid, zero_arrays(), num_rounds=rounds, timeout=5).arrays["w"].numpy()[0, 0], grid


def test_each_node_gets_its_learning_rate(classes):
    def learns(message):
        return contribution(message.content["arrays"]["w"].numpy() + message.content["config"]["lr"])

    nodes = [node("a", train=learns), node("b", train=learns)]
    assert run(classes["OwnLearningRates"](), nodes)[0] == pytest.approx(0.15)


def test_replies_with_a_high_loss_are_left_out(classes):
    def diverges(message):
        content = contribution(message.content["arrays"]["w"].numpy() + 100)
        content["metrics"]["loss"] = 9.0
        return content

    strategy = classes["WithoutHighLoss"](min_available_nodes=3)
    assert run(strategy, [node("a", 1), node("b", 3), node("c", train=diverges)])[0] == 2


def test_nodes_train_in_turns(classes):
    nodes = [node(name, 1) for name in "abcd"]
    value, grid = run(classes["InTurns"](contributor_names="query", min_available_nodes=4), nodes, rounds=2)
    assert value == 2
    assert trained_nodes(grid) == {100, 101, 102, 103}
