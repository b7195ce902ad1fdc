"""The strategy against a grid that plays the nodes, in one process and without Ray."""

import random
import subprocess
import sys

import numpy as np
import pytest
from coldfusion_fl.strategies import ColDFusion
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from coldfusion_fl.errors import RunError
from coldfusion_fl.ledger import Ledger

SHAPE = (2, 3)


@pytest.fixture(autouse=True)
def server_identity(monkeypatch):
    """Flower gives the process of a ServerApp these when it runs one; a message cannot be made without."""
    for name, value in (("_task_id", 1), ("_run_id", 1), ("_node_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)


class PlayedGrid:
    """Answers each message by the node's own function; None: never."""

    pull_interval = 0.01

    def __init__(self, nodes, order_seed=0):
        self.nodes = nodes
        self.sent = []
        self._waiting = {}
        self._order = random.Random(order_seed)

    def get_node_ids(self):
        return list(self.nodes)

    def push_messages(self, messages):
        ids = []
        for number, message in enumerate(messages, start=len(self.sent)):
            message.metadata.__dict__["_message_id"] = f"m{number}"
            self.sent.append(message)
            self._waiting[f"m{number}"] = message
            ids.append(f"m{number}")
        return ids

    def pull_messages(self, message_ids):
        """One reply a call, in a random order."""
        for message_id in self._order.sample(sorted(message_ids), len(message_ids)):
            message = self._waiting[message_id]
            node = message.metadata.dst_node_id
            answer = self.nodes[node](message)
            if answer is None:
                continue
            reply = Message(answer, reply_to=message)
            reply.metadata.__dict__["_src_node_id"] = node
            return [reply]
        return []


def node(name, value=1.0, train=None, seen=True, scores=True):
    def answer(message):
        kind = message.metadata.message_type
        if kind == "query":
            return RecordDict({"config": ConfigRecord({"name": name, "seen": seen})})
        if kind == "evaluate":
            frozen = float(message.content["arrays"]["w"].numpy().mean())
            metrics = MetricRecord({"frozen": frozen, "num-examples": 10})
            return RecordDict({"metrics": metrics}) if scores else Error(code=0, reason="no")
        if train:
            return train(message)
        base = message.content["arrays"]["w"].numpy()
        return contribution(base + np.float32(value))

    return answer


def contribution(array, **more):
    arrays = ArrayRecord({"w": Array(array), **{name: Array(value) for name, value in more.items()}})
    return RecordDict({"arrays": arrays, "metrics": MetricRecord({"loss": 0.5, "num-examples": 8})})


def start(nodes, rounds=1, ledger=None, timeout=0.5, order_seed=0, **settings):
    settings = {"contributors_per_round": 4, "min_available_nodes": len(nodes), **settings}
    strategy = ColDFusion(ledger=ledger, **settings)
    grid = PlayedGrid(dict(enumerate(nodes, start=100)), order_seed)
    arrays = ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32))})
    result = strategy.start(grid, arrays, num_rounds=rounds, timeout=timeout)
    return result.arrays["w"].numpy(), result, grid


def test_the_next_base_is_the_uniform_mean():
    fused, result, _ = start([node("a", 1), node("b", 2), node("c", 6)], rounds=2)
    assert fused.tolist() == [[6, 6, 6], [6, 6, 6]]  # twice the mean of 3
    assert result.train_metrics_clientapp[2]["contributions"] == 3
    assert result.evaluate_metrics_clientapp[0]["frozen"] == 0
    assert result.evaluate_metrics_clientapp[2]["frozen"] == 6


def test_the_order_of_arrival_leaves_no_trace():
    values = [np.float32(v) for v in np.random.default_rng(0).normal(size=7)]
    results = {
        start([node(str(i), v) for i, v in enumerate(values)], rounds=3, contributors_per_round=5, order_seed=s)[
            0
        ].tobytes()
        for s in range(5)
    }
    assert len(results) == 1


def raises(message):
    return Error(code=2, reason="<class 'X'>:<'Traceback ...\n  File ...\nValueError: out of paper'>")


BAD = {
    "NaN": (lambda m: contribution(np.full(SHAPE, np.nan, np.float32)), "not finite"),
    "infinity": (lambda m: contribution(np.full(SHAPE, np.inf, np.float32)), "not finite"),
    "an error": (raises, "its training failed: ValueError: out of paper"),
    "a leaked head": (
        lambda m: contribution(np.ones(SHAPE, np.float32), head=np.ones(2)),
        "the base has not: 'head'",
    ),
    "another shape": (lambda m: contribution(np.ones((3, 2), np.float32)), "has the shape (3, 2)"),
    "another type": (lambda m: contribution(np.ones(SHAPE)), "has the type float64"),
    "nothing": (lambda m: RecordDict(), "holds no arrays"),
    "no arrays": (lambda m: RecordDict({"arrays": ArrayRecord()}), "lacks 1 weight of the base: 'w'"),
    "a pickle": (
        lambda m: RecordDict({"arrays": ArrayRecord({"w": Array("object", SHAPE, "numpy.ndarray", _pickled())})}),
        "cannot be read",
    ),
    "an archive": (
        lambda m: RecordDict({"arrays": ArrayRecord({"w": Array("float32", SHAPE, "numpy.ndarray", _archive())})}),
        "cannot be read",
    ),
    "a huge claim": (
        lambda m: RecordDict({"arrays": ArrayRecord({"w": Array("float32", SHAPE, "numpy.ndarray", _huge())})}),
        "cannot be read",
    ),
    "silence": (lambda m: None, "did not answer within 0.5 s"),
}


def _pickled():
    import io

    buffer = io.BytesIO()
    np.save(buffer, np.array([{"run": "me"}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def _archive():
    import io

    buffer = io.BytesIO()
    np.savez(buffer, w=np.ones(SHAPE, np.float32))
    return buffer.getvalue()


def _huge():
    import io

    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (10**13,)})
    return buffer.getvalue()


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_contribution_is_refused_by_name_and_the_others_are_fused(kind, tmp_path):
    train, reason = BAD[kind]
    ledger = Ledger.create(tmp_path / "run", {})
    fused, result, _ = start([node("a", 2), node("culprit", train=train), node("c", 4)], ledger=ledger)
    assert fused.tolist() == [[3, 3, 3], [3, 3, 3]]
    record = ledger.load_json(1, "record.json")
    (refusal,) = record["refused"]
    assert refusal["name"] == "culprit"
    assert reason in refusal["reason"]
    assert record["contributions"].keys() == {"a", "c"}
    assert result.train_metrics_clientapp[1]["refused"] == 1
    assert [e["name"] for e in ledger.events() if e["kind"] == "refused"] == ["culprit"]


def test_too_few_contributions_keep_the_base(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    fused, result, _ = start([node("a", 2), node("b", train=raises)], ledger=ledger, rounds=2)
    assert fused.tolist() == np.zeros(SHAPE).tolist()
    assert ledger.load_json(1, "record.json")["fused"] is False
    assert [e["kind"] for e in ledger.events()].count("kept") == 2
    assert ledger.load_base(2)["w"].tolist() == np.zeros(SHAPE).tolist()
    assert result.train_metrics_clientapp[2]["contributions"] == 1


def test_unseen_tasks_judge_and_never_contribute():
    _, _, grid = start([node("a"), node("b"), node("u", seen=False)], rounds=3, evaluate_every=2)
    trained = [m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == "train"]
    assert set(trained) == {100, 101}
    asked = [
        (m.content["config"]["server-round"], m.content["config"]["modes"])
        for m in grid.sent
        if m.metadata.message_type == "evaluate" and m.metadata.dst_node_id == 102
    ]
    assert asked == [(0, "frozen,few-shot"), (2, "frozen"), (3, "frozen,few-shot")]


def test_each_round_is_kept(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    start([node("a", 1), node("b", 3)], rounds=2, ledger=ledger)
    assert [ledger.load_base(n)["w"][0, 0] for n in ledger.rounds()] == [0, 2, 4]
    assert ledger.load_json(2, "scores.json")["a"]["frozen"] == 4


def test_a_node_that_cannot_judge_does_not_stop_the_run(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    start([node("a"), node("b", scores=False)], ledger=ledger)
    assert ledger.load_json(1, "scores.json").keys() == {"a"}


def test_a_client_that_knows_no_roll_call_takes_part():
    def foreign(message):
        if message.metadata.message_type == "train":
            return contribution(message.content["arrays"]["w"].numpy() + np.float32(1))
        return Error(code=2, reason="ValueError: No query function registered with name 'default'")

    fused, _, _ = start([foreign, foreign])
    assert fused.tolist() == np.ones(SHAPE).tolist()


def test_two_nodes_of_one_name_are_one_contributor():
    fused, _, _ = start([node("a", 1), node("a", 100), node("b", 3)], min_available_nodes=2)
    assert fused[0, 0] == 2


def test_too_few_nodes_end_the_wait_with_an_error():
    with pytest.raises(RunError, match="only 1 contributors are connected, 2 are needed"):
        start([node("a")], min_available_nodes=2, node_timeout=0.3)


def test_a_simulation_of_too_few_nodes_is_said_so_at_once():
    def simulated(message):
        return RecordDict({"config": ConfigRecord({"name": f"n{message.metadata.dst_node_id}", "simulated-nodes": 2})})

    with pytest.raises(RunError, match="this simulation has 2 nodes.*num-supernodes=10"):
        start([simulated, simulated], min_available_nodes=10)


def test_a_node_with_a_problem_is_left_out():
    def lost(message):
        return RecordDict({"config": ConfigRecord({"problem": "this node does not know its task"})})

    fused, _, grid = start([node("a", 1), node("b", 3), lost], min_available_nodes=2)
    assert fused[0, 0] == 2
    assert {m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == "train"} == {100, 101}


def test_the_strategy_needs_neither_torch_nor_transformers():
    code = (
        "import sys; from coldfusion_fl.strategies import ColDFusion; "
        "sys.exit(bool({'torch', 'transformers', 'sklearn', 'pandas', 'safetensors'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
