"""The strategy against a grid that plays the nodes, in one process and without Ray."""

import io
import json
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from fake_grid import FakeGrid, contribution, node
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.task_identity import TaskIdentity

from coldfusion_fl.aggregation.compression import encode
from coldfusion_fl.aggregation.rules import Size
from coldfusion_fl.aggregation.server_optimizer import Nesterov
from coldfusion_fl.config.settings import COMPRESSIONS
from coldfusion_fl.errors import RunError, RunFolderError, SettingsError
from coldfusion_fl.fusion import Ties
from coldfusion_fl.run.ledger import Ledger
from coldfusion_fl.strategies import ColDFusion
from coldfusion_fl.strategies.membership import exchange_messages
from coldfusion_fl.versions import format_versions

SHAPE = (2, 3)


@pytest.fixture(autouse=True)
def server_identity(monkeypatch):
    """Flower gives the process of a ServerApp these when it runs one; a message cannot be made without."""
    for name, value in (("_task_id", 1), ("_run_id", 1), ("_node_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)


def start(nodes, rounds=1, ledger=None, timeout=0.5, order_seed=0, **settings):
    settings = {"contributors_per_round": 4, "min_available_nodes": len(nodes), **settings}
    strategy = ColDFusion(ledger=ledger, **settings)
    grid = FakeGrid(dict(enumerate(nodes, start=100)), order_seed)
    arrays = ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32))})
    result = strategy.start(grid, arrays, num_rounds=rounds, timeout=timeout)
    return result.arrays["w"].numpy(), result, grid


def test_a_ledger_says_how_its_run_ended(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    start([node("a"), node("b")], ledger=ledger)
    assert ledger.status["state"] == "finished"
    with pytest.raises(RunError):
        start([node("a")], rounds=3, ledger=ledger, node_timeout=0.1)
    assert ledger.status["state"] == "failed"
    assert "are connected" in ledger.status["reason"]
    start([node("a"), node("b")], rounds=3, ledger=ledger)
    assert (ledger.status["state"], ledger.status["reason"]) == ("finished", None)


def test_what_all_contributors_report_comes_back_as_means():
    def told(loss, **more):
        def train(message):
            content = contribution(np.ones(SHAPE, np.float32), round=1)
            content["metrics"] = MetricRecord({"loss": loss, "contributions": 99, **more})
            return content

        return train

    _, result, _ = start([node("a", train=told(1.0, f1=0.5)), node("b", train=told(3.0))])
    assert result.train_metrics_clientapp[1] == {"loss": 2.0, "contributions": 2, "rejected": 0}


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
    "another round's": (
        lambda m: contribution(np.ones(SHAPE, np.float32), round=7),
        "it is of round 7, not of round 1",
    ),
}


def _pickled():
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"run": "me"}], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def _archive():
    buffer = io.BytesIO()
    np.savez(buffer, w=np.ones(SHAPE, np.float32))
    return buffer.getvalue()


def _huge():
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (10**13,)})
    return buffer.getvalue()


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_contribution_is_rejected_by_name_and_the_others_are_fused(kind, tmp_path):
    train, reason = BAD[kind]
    ledger = Ledger.create(tmp_path / "run", {})
    fused, result, _ = start([node("a", 2), node("culprit", train=train), node("c", 4)], ledger=ledger)
    assert fused.tolist() == [[3, 3, 3], [3, 3, 3]]
    record = ledger.load_json(1, "record.json")
    (rejection,) = record["rejected"]
    assert rejection["name"] == "culprit"
    assert reason in rejection["reason"]
    assert record["contributions"].keys() == {"a", "c"}
    assert result.train_metrics_clientapp[1]["rejected"] == 1
    assert [e["name"] for e in ledger.events() if e["kind"] == "rejected"] == ["culprit"]


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


def test_a_client_that_knows_no_query_takes_part():
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


class Arriving(FakeGrid):
    """Its last node is there from the third look on."""

    looks = 0

    def get_node_ids(self):
        self.looks += 1
        return list(self.nodes)[: -1 if self.looks < 3 else None]


def test_who_is_awaited_by_name_is_waited_for_whoever_else_is_there(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    strategy = ColDFusion(ledger=ledger, min_available_nodes=3, awaited_names=("a", "b", "c"), contributors_per_round=4)
    grid = Arriving(dict(enumerate([node("a"), node("b"), node("d"), node("c")], start=100)))
    strategy.start(grid, ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32))}), num_rounds=1, timeout=0.5)
    assert set(ledger.record(1)["contributions"]) == {"a", "b", "c", "d"}
    [waiting] = [event for event in ledger.events() if event["kind"] == "waiting"]
    assert (waiting["there"], waiting["absent"]) == (3, ["c"])


def test_who_is_awaited_and_does_not_come_is_missing(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    nodes = [node("a"), node("b"), node("judge", seen=False)]
    start(nodes, ledger=ledger, min_available_nodes=3, awaited_names=("a", "b", "c", "judge"), node_timeout=0.3)
    assert ledger.record(1)["missing"] == ["c"]
    [met] = [event for event in ledger.events() if event["kind"] == "members"]
    assert met["absent"] == ["c"]


def test_a_simulation_of_too_few_nodes_is_said_so_at_once():
    def simulated(message):
        return RecordDict({"config": ConfigRecord({"name": f"n{message.metadata.dst_node_id}", "simulated-nodes": 2})})

    with pytest.raises(RunError, match="this simulation has 2 nodes.*num-supernodes=10"):
        start([simulated, simulated], min_available_nodes=10)


def test_a_node_with_a_problem_is_excluded_names():
    def lost(message):
        return RecordDict({"config": ConfigRecord({"problem": "this node does not know its task"})})

    fused, _, grid = start([node("a", 1), node("b", 3), lost], min_available_nodes=2)
    assert fused[0, 0] == 2
    assert {m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == "train"} == {100, 101}


def calls_itself(name, **about):
    """A node that says more of itself at the roll call."""
    plain = node(name)

    def answer(message):
        if message.metadata.message_type == "query":
            return RecordDict({"config": ConfigRecord({"name": name, "seen": True, **about})})
        return plain(message)

    return answer


def trained(grid):
    return {m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == "train"}


def test_a_node_of_another_version_is_left_out_and_both_versions_are_named(caplog):
    theirs, ours = "coldfusion-fl 9.9.9, flwr 1.42.0", format_versions()
    nodes = [calls_itself("a", versions=ours), calls_itself("b"), calls_itself("old", versions=theirs)]
    _, _, grid = start(nodes, min_available_nodes=2)
    assert trained(grid) == {100, 101}
    assert f"Node 102 ('old') is left out: it has {theirs}; this server has {ours}." in caplog.text


def test_where_keys_say_who_a_node_is_nobody_joins_under_anothers_name(caplog):
    def foreign(message):
        if message.metadata.message_type == "query":
            return Error(code=2, reason="no query function")
        return contribution(message.content["arrays"]["w"].numpy())

    nodes = [node("a"), node("b"), node("a"), node("stranger"), foreign]  # 100 to 104
    known = {100: "a", 101: "b", 102: "c", 104: "d"}
    _, _, grid = start(nodes, min_available_nodes=3, node_names=lambda: known)
    assert trained(grid) == {100, 101, 104}
    assert "Node 102 ('a') is left out: its key is that of 'c'" in caplog.text
    assert "Node 103 ('stranger') is left out: its key is not that of a member" in caplog.text


class SlowGrid(FakeGrid):
    """Holds the training replies of one node back until a later round is under way."""

    def __init__(self, nodes, slow, rounds_late):
        super().__init__(nodes)
        self._slow, self._rounds_late = slow, rounds_late
        self._order = SimpleNamespace(random=lambda: 1.0)  # what is not held back is there at once

    def _is_held(self, message):
        if message.metadata.dst_node_id != self._slow or message.metadata.message_type != "train":
            return False
        newest = max(m.content["config"]["server-round"] for m in self.sent if m.metadata.message_type == "train")
        return newest < message.content["config"]["server-round"] + self._rounds_late

    def pull_messages(self, message_ids):
        return super().pull_messages(
            [one for one in message_ids if one not in self._waiting or not self._is_held(self._waiting[one])]
        )


def run_with_a_slow_node(ledger, rounds, rounds_late=1, **settings):
    """Nodes a and b move the base by 1, the slow c by 4; c is sampled in each round."""
    grid = SlowGrid({100: node("a"), 101: node("b"), 102: node("c", 4)}, 102, rounds_late)
    settings = {"contributors_per_round": 3, "min_available_nodes": 3, "evaluate_every": -1, **settings}
    strategy = ColDFusion(ledger=ledger, **settings)
    arrays = ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32))})
    result = strategy.start(grid, arrays, num_rounds=rounds, timeout=0.3)
    return result.arrays["w"].numpy()[0, 0]


def test_what_comes_too_late_is_rejected_as_late_and_once(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    assert run_with_a_slow_node(ledger, 3) == 3
    rejected = [{(one["name"], one["reason"]) for one in ledger.record(number)["rejected"]} for number in (1, 2, 3)]
    silent = ("c", "it did not answer within 0.3 s")
    assert rejected == [
        {silent},
        {silent, ("c", "it came too late: it is of round 1")},
        {silent, ("c", "it came too late: it is of round 2")},
    ]
    assert not any(one["counts"] for number in (2, 3) for one in ledger.record(number)["rejected"])


def test_a_late_contribution_counts_less_and_goes_to_the_base_of_now(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    last = run_with_a_slow_node(ledger, 2, staleness_discount=0.5)
    # Round 1: (1 + 1) / 2. Round 2: a and b are at 2, and c's +4 of round 1 is halved: 1 + 2.
    assert last == pytest.approx((2 + 2 + 3) / 3)
    facts = ledger.record(2)["contributions"]["c"]
    assert facts["staleness"] == 1
    assert facts["norm"] == pytest.approx(2 * np.sqrt(6))


def test_who_is_later_counts_still_less(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    last = run_with_a_slow_node(ledger, 3, rounds_late=2, staleness_discount=0.5)
    # c's +4 of round 1 comes in round 3: a quarter of it, to the base 2.
    assert last == pytest.approx((3 + 3 + 3) / 3)
    assert ledger.record(3)["contributions"]["c"]["staleness"] == 2


def test_a_late_contribution_whose_base_is_gone_is_rejected(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    run_with_a_slow_node(ledger, 3, rounds_late=2, staleness_discount=0.5, keep_last=1)
    reasons = {one["reason"] for one in ledger.record(3)["rejected"]}
    assert "it came too late: it is of round 1, whose base is not kept any more" in reasons


def test_what_nodes_say_cannot_move_a_terminals_cursor(tmp_path):
    def ill(message):
        return Error(code=0, reason="no\x1b[2K rows")

    def evaluate(message):
        if message.metadata.message_type == "evaluate":
            about = ConfigRecord({"metric": "x\x1b[2K" * 99, "head": "mean"})
            return RecordDict({"metrics": MetricRecord({"frozen": 1.0}), "config": about})
        return node("b")(message)

    ledger = Ledger.create(tmp_path / "run", {})
    start([node("a"), evaluate, node("c", train=ill)], ledger=ledger)
    (rejection,) = ledger.record(1)["rejected"]
    assert rejection["reason"].isprintable()
    assert "no?[2K rows" in rejection["reason"]
    metric = json.loads((ledger.round_folder(1) / "scores.json").read_text())["b"]["metric"]
    assert metric.isprintable()
    assert len(metric) == 60


def test_of_two_late_contributions_the_newer_one_counts(tmp_path):
    """The slow node's answers of rounds 1 and 2 come together, in round 3, which it does not answer."""
    ledger = Ledger.create(tmp_path / "run", {})
    grid = SlowGrid({100: node("a"), 101: node("b"), 102: node("c", 4)}, 102, 1)

    def is_held(message):
        if message.metadata.dst_node_id != 102 or message.metadata.message_type != "train":
            return False
        sent = [m.content["config"]["server-round"] for m in grid.sent if m.metadata.message_type == "train"]
        return max(sent) < 3 or message.content["config"]["server-round"] == 3

    grid._is_held = is_held
    strategy = ColDFusion(
        ledger=ledger, contributors_per_round=3, min_available_nodes=3, evaluate_every=-1, staleness_discount=0.5
    )
    arrays = ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32))})
    strategy.start(grid, arrays, num_rounds=3, timeout=0.3)
    assert ledger.record(3)["contributions"]["c"]["staleness"] == 1
    reasons = [one["reason"] for one in ledger.record(3)["rejected"] if one["name"] == "c"]
    assert "it came too late: it is of round 1, and a newer one of it is here" in reasons


def test_a_newer_contribution_goes_before_a_late_one(tmp_path):
    """The slow node is quick again in round 2."""
    ledger = Ledger.create(tmp_path / "run", {})
    grid = SlowGrid({100: node("a"), 101: node("b"), 102: node("c", 4)}, 102, 1)
    held = grid._is_held
    grid._is_held = lambda message: held(message) and message.content["config"]["server-round"] == 1
    strategy = ColDFusion(
        ledger=ledger, contributors_per_round=3, min_available_nodes=3, evaluate_every=-1, staleness_discount=0.5
    )
    arrays = ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32))})
    result = strategy.start(grid, arrays, num_rounds=2, timeout=0.5)
    assert result.arrays["w"].numpy()[0, 0] == pytest.approx(1 + (1 + 1 + 4) / 3)
    (rejection,) = ledger.record(2)["rejected"]
    assert rejection["reason"] == "it came too late: it is of round 1, and a newer one of it is here"


def test_a_round_says_who_is_missing(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    nodes = {100: node("a"), 101: node("b"), 102: node("c")}
    grid = FakeGrid(nodes)
    strategy = ColDFusion(ledger=ledger, contributors_per_round=2, min_available_nodes=3)
    asked = strategy.configure_train

    def configure_train(server_round, *args):
        if server_round == 2:
            del nodes[101]
        if server_round == 3:
            nodes[103] = node("b")
        return asked(server_round, *args)

    strategy.configure_train = configure_train
    arrays = ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32))})
    strategy.start(grid, arrays, num_rounds=3, timeout=0.5)
    assert [ledger.record(number)["missing"] for number in (1, 2, 3)] == [[], ["b"], []]


def test_the_strategy_needs_neither_torch_nor_transformers():
    code = (
        "import sys; from coldfusion_fl.strategies import ColDFusion; "
        "sys.exit(bool({'torch', 'transformers', 'sklearn', 'pandas', 'safetensors'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_two_answers_of_one_contributor_are_one_contribution(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    answers = [contribution(np.full(SHAPE, v, np.float32)) for v in (2, 50)]
    fused, *_ = start([node("a", 4), node("twice", train=lambda m: answers)], ledger=ledger)
    assert fused[0, 0] in (3, 27)
    (rejection,) = ledger.record(1)["rejected"]
    assert (rejection["name"], rejection["reason"]) == ("twice", "it answered twice; the first answer counts")


def test_the_longest_training_is_sent_first(tmp_path):
    """By what each said of its last one; who said nothing comes before all."""
    took = {"a": 3.0, "b": 9.0, "c": None, "d": 5.0}

    def member(name):
        def train(message):
            content = contribution(np.ones(SHAPE, np.float32))
            if took[name]:
                content["metrics"]["seconds"] = took[name]
            return content

        return node(name, train=train)

    _, _, grid = start(list(map(member, took)), rounds=2, ledger=Ledger.create(tmp_path / "run", {}))
    sent = [message.metadata.dst_node_id for message in grid.sent if message.metadata.message_type == "train"]
    assert sent[:4] == [100, 101, 102, 103]  # nothing is known
    assert sent[4:] == [102, 101, 103, 100]


class PostOffice(FakeGrid):
    """Notes how many messages come together."""

    def __init__(self, nodes):
        super().__init__(nodes)
        self.posted = []

    def push_messages(self, messages):
        self.posted.append(len(messages))
        return super().push_messages(messages)


class Far(PostOffice):
    """As in a deployment, where messages take their time."""

    pull_interval = property()  # which it has not

    def push_messages(self, messages):
        time.sleep(0.3)
        return super().push_messages(messages)


def questions(count):
    return [Message(contribution(np.zeros(SHAPE)), dst_node_id=n, message_type="train") for n in range(count)]


def test_a_simulation_gets_one_message_at_a_time_where_their_order_matters():
    grid = PostOffice({number: node("x") for number in range(4)})
    assert len(list(exchange_messages(grid, questions(4), 1, in_order=True))) == 4
    assert grid.posted == [1, 1, 1, 1]
    assert len(list(exchange_messages(grid, questions(4), 1))) == 4
    assert grid.posted[4:] == [4]


def test_all_are_asked_however_long_one_answer_is_worked_on():
    grid = PostOffice({number: node("x") for number in range(5)})
    for _ in exchange_messages(grid, questions(5), 0.2, in_order=True):
        time.sleep(0.15)
    assert sum(grid.posted) == 5


def test_sending_does_not_count_as_silence(monkeypatch):
    monkeypatch.setattr("coldfusion_fl.strategies.membership._POLL", 0.01)
    grid = Far({number: node("x") for number in range(3)})
    assert not hasattr(grid, "pull_interval")
    assert len(list(exchange_messages(grid, questions(3), 0.2, in_order=True))) == 3
    assert grid.posted == [3]


def test_an_answer_to_another_round_is_rejected(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    strategy = ColDFusion(min_available_nodes=2, ledger=ledger)
    grid = FakeGrid({1: node("a"), 2: node("b")})
    arrays = ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32))})
    staleness_discount = list(strategy.configure_train(1, arrays, ConfigRecord(), grid))
    grid.push_messages(staleness_discount)
    replies = [Message(contribution(np.ones(SHAPE, np.float32)), reply_to=message) for message in staleness_discount]
    for reply, message in zip(replies, staleness_discount, strict=True):
        reply.metadata.__dict__["_src_node_id"] = message.metadata.dst_node_id
    messages = list(strategy.configure_train(2, arrays, ConfigRecord(), grid))
    grid.push_messages(messages)
    assert strategy.aggregate_train(2, replies)[0] is None
    reasons = {r["reason"] for r in strategy._record["rejected"]}
    assert "its reply answers no message of this round" in reasons


def test_the_parts_of_the_server_by_text_or_as_objects():
    nodes = [node("a", 1), node("b", 1), node("c", 4)]
    for fusion, server_optimizer in (
        ("median", "learning-rate(learning-rate=0.5)"),
        ("ties(density=1)", Nesterov(learning_rate=0.5, momentum=0.0)),
    ):
        fused, *_ = start(nodes, fusion=fusion, server_optimizer=server_optimizer)
        assert fused[0, 0] == (0.5 if fusion == "median" else 1.0)
    strategy = ColDFusion(fusion=Ties(), screening=[Size(), "direction"])
    assert [rule.name for rule in strategy.screening] == ["size", "direction"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"fusion": "meen"}, "there is no 'meen'. Did you mean 'mean'? Known are: dare"),
        ({"server_optimizer": "adamw"}, "there is no 'adamw'. Did you mean 'adam'?"),
        (
            {"screening": "size, greedy-soop"},
            "there is no 'greedy-soop'. Did you mean 'greedy-soup'? Known are: direction",
        ),
        ({"screening": "size(factor=0.5)"}, "'size.factor' must be above 1"),
        ({"screening": "greedy-soup"}, "greedy-soup needs a score"),
        ({"rollback": 1.0}, "rollback needs a score"),
        ({"fusion": "median", "screening": "influence-cap"}, "the fusion median ignores them"),
        ({"min_contributions": 9}, "no round could ever fuse"),
        ({"contributors_per_round": 0}, "contributors_per_round must be at least 1, but is 0"),
        ({"keep_last": -2}, "keep_last must be at least 0, but is -2"),
        ({"rollback": -1.0, "score_fn": len}, "rollback must be at least 0, but is -1.0"),
        ({"contributors_per_round": 2.5}, "must be a whole number"),
        ({"ema": "0.9"}, "ema must be a number"),
        ({"rollback": float("nan"), "score_fn": len}, "rollback must be a finite number, but is nan"),
        ({"shared_keys": ""}, "shared_keys must be patterns"),
        ({"shared_keys": ["a.*"]}, "shared_keys must be patterns"),
        ({"ledger": "runs/mine"}, "ledger must be an opened run folder: Ledger.open('runs/mine')"),
        ({"exclude": "a, b"}, "exclude must be a list of names, not the text 'a, b'"),
        ({"min_available_nodes": 0}, "min_available_nodes must be at least 1, but is 0"),
        ({"awaited_names": "a, b"}, "awaited_names must be a list of names, not the text 'a, b'"),
        ({"screening": None}, "screening must be a text or a list of rules"),
        ({"score_fn": 3}, "score_fn must be a function"),
        (
            {"compression": "int4"},
            "compression must be one of float32, bfloat16, float16, int8, but is 'int4'",
        ),
        ({"fusion": 3}, "fusion must be an object or a text, such as 'mean', but is 3"),
        ({"screening": [len]}, "screening must be an object or a text"),
        ({"ema": 1.0}, "ema must be below 1, but is 1.0"),
    ],
)
def test_what_does_not_go_together_is_said_at_once(settings, words):
    with pytest.raises(SettingsError) as caught:
        ColDFusion(**settings)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.array([1, np.nan], np.float32), "'w' has values that are not finite"),
        (np.array([1j]), "'w' holds complex128, not numbers"),
        (np.array(["text"]), "not numbers"),
    ],
)
def test_initial_arrays_that_are_no_base(array, words):
    strategy = ColDFusion(min_available_nodes=2)
    with pytest.raises(SettingsError, match="the initial arrays cannot be fused") as caught:
        strategy.start(FakeGrid({1: node("a"), 2: node("b")}), ArrayRecord({"w": Array(array)}))
    assert words in str(caught.value)


def test_screening_rejects_and_records_why(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    nodes = [node("a", 2), node("b", 3), node("c", 4), node("big", 3000)]
    fused, *_ = start(nodes, ledger=ledger, screening="size")
    assert fused[0, 0] == 3
    record = ledger.record(1)
    (rejection,) = record["rejected"]
    assert rejection["name"] == "big"
    assert "too large" in rejection["reason"]
    assert rejection["norm"] == pytest.approx(3000 * 6**0.5)
    facts = record["contributions"]["a"]
    assert facts["norm"] == pytest.approx(2 * 6**0.5)
    assert facts["cosine"] == pytest.approx(1, abs=1e-3)
    assert facts["share"] == pytest.approx(1 / 3)
    assert facts["reported"] == {"loss": 0.5, "num-examples": 8}
    assert len(facts["sha256"]) == 64


def test_who_is_rejected_too_often_is_excluded_names(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    bad = node("bad", train=lambda m: contribution(np.full(SHAPE, np.nan, np.float32)))
    slow = node("slow", train=lambda m: None)
    start([node("a"), node("b"), bad, slow], rounds=4, ledger=ledger, max_rejections=2, timeout=0.2)
    sampled = [ledger.record(number)["sampled"] for number in (1, 2, 3, 4)]
    assert ["bad" in names for names in sampled] == [True, True, False, False]
    assert all("slow" in names for names in sampled)  # nothing came of it that was not fit
    assert ledger.record(3)["excluded"] == {"bad": "it was rejected 2 times"}
    assert [e["name"] for e in ledger.events() if e["kind"] == "excluded"] == ["bad"]


def test_an_excluded_contributor_is_not_sampled():
    fused, _, grid = start([node("a", 1), node("b", 3), node("x", 100)], exclude=["x"])
    assert fused[0, 0] == 2
    trained = {m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == "train"}
    assert trained == {100, 101}


def test_the_probe_takes_a_bad_round_back(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})

    def probe(encoder):
        return -abs(float(encoder["w"][0, 0]) - 3)

    fused, *_ = start([node("a", 2), node("b", 2)], rounds=3, ledger=ledger, score_fn=probe, rollback=0.5)
    # 0, 2, 4 (as good as 2), and 6 would be worse than 4 by 2.
    assert fused[0, 0] == 4
    assert ledger.record(3)["rolled-back"]
    assert ledger.record(3)["server-validation"] == {"before": -1.0, "after": -3.0}
    assert ledger.record(3)["kept-because"] == "the server's probe fell from -1 to -3"


def test_the_gate_leaves_out_what_lowers_the_probe():
    def probe(encoder):
        return -abs(float(encoder["w"][0, 0]) - 2)

    fused, *_ = start([node("a", 2), node("b", 2), node("c", 9)], score_fn=probe, screening="greedy-soup")
    assert fused[0, 0] == 2


def test_a_private_mean_says_in_each_round_what_is_spent(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    nodes = [node("a", 1), node("b", 2), node("c", 300)]
    fused, *_ = start(nodes, rounds=2, ledger=ledger, fusion="private-mean(clip=0.001, noise=2)")
    assert 0 < np.abs(fused).max() < 0.1
    first, second = (ledger.record(number)["privacy"] for number in (1, 2))
    assert 0 < first["epsilon"] < second["epsilon"]
    assert [first["rounds"], second["rounds"]] == [1, 2]
    start(nodes, rounds=3, ledger=Ledger.reopen(ledger.folder), fusion="private-mean(clip=0.001, noise=2)")
    assert ledger.record(3)["privacy"]["rounds"] == 3


def test_the_moving_average_is_kept_beside(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    fused, *_ = start([node("a", 1), node("b", 1)], rounds=2, ledger=ledger, ema=0.5)
    assert fused[0, 0] == 2
    assert ledger.load_average(2)["w"][0, 0] == pytest.approx(0.5 * (0.5 * 0 + 0.5 * 1) + 0.5 * 2)


def test_what_is_not_shared_is_neither_sent_nor_taken(caplog):
    got = []

    def everything(message):
        got.append(set(message.content["arrays"]))
        return contribution(message.content["arrays"]["w"].numpy() + np.float32(1), head=np.ones(3))

    strategy = ColDFusion(shared_keys="w, body.*", min_available_nodes=2)
    nodes = {1: node("a", train=everything), 2: node("b", train=everything)}
    arrays = ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32)), "head": Array(np.zeros(5))})
    result = strategy.start(FakeGrid(nodes), arrays, num_rounds=2, timeout=5)
    assert result.arrays["w"].numpy()[0, 0] == 2
    assert set(result.arrays) == {"w"}
    assert all(names == {"w"} for names in got)
    warnings = [record for record in caplog.records if "not shared" in record.message]
    assert len(warnings) == 1
    with pytest.raises(SettingsError, match="matches none of the arrays: w, head"):
        ColDFusion(shared_keys=lambda name: False, min_available_nodes=2).start(FakeGrid(nodes), arrays)


def test_a_fisher_diagonal_weighs():
    def informed(value, *fisher):
        def train(message):
            content = contribution(np.full(SHAPE, value, np.float32))
            content["fisher"] = ArrayRecord({"w": Array(np.repeat(np.float32([fisher]).T, SHAPE[1], axis=1))})
            return content

        return train

    nodes = [node("a", train=informed(1, 3, 1)), node("b", train=informed(5, 1, 3))]
    fused, *_ = start(nodes, fusion="fisher")
    assert np.allclose(fused, [[2, 2, 2], [4, 4, 4]], atol=1e-4)
    nodes[1] = node("b", train=informed(5, np.nan, 3))
    fused, *_ = start(nodes, fusion="fisher", min_contributions=1)
    assert np.allclose(fused, 1)  # only the fit one was fused
    fused, *_ = start(nodes, min_contributions=2)
    assert np.allclose(fused, 3)  # the mean does not look at them
    fused, *_ = start([node("a", 1), node("b", 1)], fusion="fisher")
    assert fused[0, 0] == 0  # nobody sent one: the base is kept


def test_nobody_reachable_is_a_contributor():
    unreachable = Error(code=ErrorCode.NODE_UNAVAILABLE, reason="the node is gone")
    fused, _, grid = start([node("a", 1), node("b", 3), lambda m: unreachable], min_available_nodes=2)
    assert fused[0, 0] == 2
    assert {m.metadata.dst_node_id for m in grid.sent if m.metadata.message_type == "train"} == {100, 101}


def test_a_simulation_whose_workers_fail_says_so_at_once():
    broken = Error(code=ErrorCode.UNKNOWN, reason="No module named 'nowhere'")
    with pytest.raises(RunError, match="cannot start.*No module named 'nowhere'"):
        start([lambda m: broken, lambda m: broken], min_available_nodes=2, node_timeout=20)


def test_a_worker_that_fails_once_is_asked_again():
    failures = iter([Error(code=ErrorCode.UNKNOWN, reason="the worker died")])
    well = node("a", 1)
    fused, *_ = start([lambda m: next(failures, None) or well(m), node("b", 3)], min_available_nodes=2)
    assert fused[0, 0] == 2


def test_a_newcomer_that_says_nothing_does_not_hold_up_the_rounds(monkeypatch):
    from coldfusion_fl.strategies import membership

    monkeypatch.setattr(membership, "_COURTESY", 0.2)
    began = __import__("time").monotonic()
    nodes = {1: node("a", 1), 2: node("b", 3)}
    grid = FakeGrid(nodes)
    strategy = ColDFusion(min_available_nodes=2)
    arrays = ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32))})
    calls = iter(range(10**6))
    monkeypatch.setattr(grid, "get_node_ids", lambda: [1, 2] if next(calls) < 1 else [1, 2, 3])
    nodes[3] = lambda message: None
    grid.nodes = nodes
    strategy.start(grid, arrays, num_rounds=5, timeout=5)
    assert __import__("time").monotonic() - began < 3


def test_who_was_away_takes_part_at_once_and_is_asked_again(tmp_path, monkeypatch):
    answers = iter([{"name": "b"}])
    staleness_discount = node("b", 3)

    def slow_to_answer(message):
        if message.metadata.message_type != "query":
            return staleness_discount(message)
        about = next(answers, None)
        return about and RecordDict({"config": ConfigRecord(about)})

    grid = FakeGrid({1: node("a", 1), 2: slow_to_answer})
    ledger = Ledger.create(tmp_path / "run", {})
    strategy = ColDFusion(min_available_nodes=2, min_contributions=1, evaluate_every=-1, ledger=ledger)
    started = lambda number: any(e["kind"] == "round" and e["round"] == number for e in ledger.events())  # noqa: E731
    monkeypatch.setattr(grid, "get_node_ids", lambda: [1] if started(1) and not started(2) else [1, 2])
    strategy.start(grid, ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32))}), num_rounds=3, timeout=5)
    assert [ledger.record(number)["sampled"] for number in (1, 2, 3)] == [["a", "b"], ["a"], ["a", "b"]]
    assert ledger.record(2)["missing"] == ["b"]
    questions = [m for m in grid.sent if m.metadata.message_type == "query" and m.metadata.dst_node_id == 2]
    assert len(questions) == 2


@pytest.fixture
def unbroken(tmp_path):
    """Settings that remember much, their nodes, and the bases of an unbroken run of 5 rounds."""
    settings = {
        "server_optimizer": "nesterov",
        "ema": 0.9,
        "screening": "size",
        "contributors_per_round": 3,
        "max_rejections": 2,
    }
    bad = node("bad", train=lambda m: contribution(np.full(SHAPE, np.nan, np.float32)))
    nodes = [node("a", 1), node("b", 1.5), node("c", 2), node("d", 0.7), bad]
    ledger = Ledger.create(tmp_path / "unbroken", {})
    start(nodes, rounds=5, ledger=ledger, **settings)
    return settings, nodes, ledger


def same(one, other):
    assert one.rounds() == other.rounds()
    for number in one.rounds():
        for load in ("load_base", "load_step_state", "load_average"):
            a, b = getattr(one, load)(number), getattr(other, load)(number)
            assert {n: x.tobytes() for n, x in a.items()} == {n: x.tobytes() for n, x in b.items()}, (number, load)
        assert one.record(number)["base-sha256"] == other.record(number)["base-sha256"]
        assert one.load_json(number, "scores.json") == other.load_json(number, "scores.json")


@pytest.mark.parametrize("stop", [0, 1, 3])
def test_a_run_goes_on_as_if_it_had_not_been_broken(unbroken, tmp_path, stop):
    settings, nodes, whole = unbroken
    ledger = Ledger.create(tmp_path / "run", {})
    start(nodes, rounds=stop, ledger=ledger, **settings)
    start(nodes, rounds=5, ledger=Ledger.reopen(ledger.folder), **settings)
    same(whole, ledger)


def test_a_base_that_was_not_judged_yet_is_judged_at_the_resume(unbroken, tmp_path):
    settings, nodes, whole = unbroken
    ledger = Ledger.create(tmp_path / "run", {})
    start(nodes, rounds=2, ledger=ledger, **settings)
    (ledger.round_folder(2) / "scores.json").unlink()
    sums = ledger.round_folder(2) / "SHA256SUMS"
    sums.write_text("".join(line for line in sums.read_text().splitlines(True) if "scores" not in line))
    start(nodes, rounds=5, ledger=Ledger.reopen(ledger.folder), **settings)
    same(whole, ledger)


def test_a_run_goes_on_with_its_own_model_alone(unbroken, caplog):
    settings, nodes, ledger = unbroken
    grid = FakeGrid(dict(enumerate(nodes)))
    strategy, larger = ColDFusion(ledger=ledger, **settings), ArrayRecord({"w": Array(np.ones(9, np.float32))})
    with pytest.raises(RunFolderError, match=r"another model than the one given: 'w' has the shape \(9,\)"):
        strategy.start(grid, larger, num_rounds=9)
    assert ledger.status["state"] == "finished"  # as it was
    kept = ledger.load_base(5)["w"]
    other = ArrayRecord({"w": Array(np.full(SHAPE, 1e6, np.float32))})  # such as a model that is drawn afresh
    ColDFusion(min_available_nodes=2, ledger=ledger, **settings).start(grid, other, num_rounds=6, timeout=5)
    assert any("It goes on from its own base" in record.message for record in caplog.records)
    assert np.abs(ledger.load_base(6)["w"] - kept).max() < 10


def test_a_run_does_not_go_on_with_other_settings_but_with_other_screening(unbroken):
    settings, nodes, ledger = unbroken
    with pytest.raises(RunFolderError) as caught:
        start(nodes, rounds=6, ledger=ledger, **{**settings, "server_optimizer": "plain", "seed": 9})
    for line in (
        "server-optimizer: 'nesterov(learning-rate=0.7, momentum=0.9)' there, 'plain' here",
        "seed: 0 there, 9 here",
    ):
        assert f"\n  {line}" in str(caught.value)
    start(nodes, rounds=6, ledger=ledger, **{**settings, "screening": "size", "exclude": ["a"], "max_rejections": 9})
    assert "bad" not in ledger.record(6)["excluded"]  # pardoned
    assert "a" in ledger.record(6)["excluded"]
    assert ledger.record(6)["fused"]


@pytest.mark.parametrize("server_optimizer", ["yogi", "adam", "learning-rate(learning-rate=1e30)"])
def test_a_step_that_is_not_finite_keeps_the_base_and_what_is_remembered(server_optimizer, tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    calls = iter(range(100))
    wild = node("wild", train=lambda m: contribution(np.full(SHAPE, 1e25 if next(calls) < 2 else 1, np.float32)))
    start([node("a"), node("b"), wild], rounds=4, ledger=ledger, server_optimizer=server_optimizer)
    assert "not finite" in ledger.record(1)["kept-because"]
    assert not ledger.record(2)["fused"]
    assert ledger.record(4)["fused"] == (not server_optimizer.startswith("learning"))
    assert not ledger.record(4)["rejected"]
    for number in ledger.rounds():
        assert np.isfinite(ledger.load_base(number)["w"]).all()


def test_an_outage_is_waited_for_and_does_not_burn_the_rounds(tmp_path, monkeypatch):
    ledger = Ledger.create(tmp_path / "run", {})
    grid = FakeGrid({1: node("a"), 2: node("b")})
    monkeypatch.delattr(FakeGrid, "pull_interval")  # no simulation: nodes come and go
    monkeypatch.setattr("coldfusion_fl.strategies.membership._POLL", 0.01)
    there = grid.get_node_ids
    looks = iter(range(10**6))
    monkeypatch.setattr(grid, "get_node_ids", lambda: [] if 6 < next(looks) < 30 else there())
    arrays = ArrayRecord({"w": Array(np.zeros(SHAPE, np.float32))})
    ColDFusion(ledger=ledger).start(grid, arrays, num_rounds=8, timeout=5)
    assert next(looks) > 30
    assert [ledger.record(number)["fused"] for number in range(1, 9)] == [True] * 8


def test_where_too_few_are_left_the_run_ends_and_says_how_to_go_on(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    bad = [node(n, train=lambda m: contribution(np.full(SHAPE, np.nan, np.float32))) for n in ("bad", "worse")]
    with pytest.raises(RunError, match="only 1 contributors are there, and 2 are left out or blocked; 2 are needed"):
        start([node("a"), *bad], rounds=50, ledger=ledger, max_rejections=3)
    assert ledger.rounds() == [0, 1, 2, 3]


def test_who_is_left_out_is_said_once_however_long_others_are_waited_for(tmp_path, monkeypatch):
    monkeypatch.delattr(FakeGrid, "pull_interval")
    monkeypatch.setattr("coldfusion_fl.strategies.membership._POLL", 0.01)
    ledger = Ledger.create(tmp_path / "run", {})
    bad = [node(n, train=lambda m: contribution(np.full(SHAPE, np.nan, np.float32))) for n in ("bad", "worse")]
    settings = {"max_rejections": 1, "node_timeout": 0.3}
    with pytest.raises(RunError, match="2 are left out"):
        start([node("a"), *bad], rounds=9, ledger=ledger, **settings)
    assert sorted(event["name"] for event in ledger.events() if event["kind"] == "excluded") == ["bad", "worse"]
    start([node("a"), *bad], rounds=2, ledger=ledger, **settings, min_contributions=1)  # as the message advises
    assert ledger.record(2)["fused"]


@pytest.mark.parametrize("score", [np.float32(1), np.array(2), True])
def test_a_probe_may_return_any_number(score, tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    start([node("a"), node("b")], ledger=ledger, score_fn=lambda encoder: score, rollback=0.5, screening="greedy-soup")
    assert ledger.record(1)["fused"]


def test_a_probe_that_gives_no_number_is_said():
    nodes, settings = [node("a"), node("b")], {"score_fn": lambda encoder: np.nan}
    with pytest.raises(RunError, match="the server's probe gives no number for the base"):
        start(nodes, rollback=0.5, **settings)
    fused, *_ = start(nodes, screening="greedy-soup", **settings)
    assert not fused.any()  # nobody passed the gate


def test_a_base_without_a_score_is_taken_back(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    probe = lambda encoder: np.nan if encoder["w"][0, 0] else 0.5  # noqa: E731
    fused, *_ = start([node("a"), node("b")], rounds=2, ledger=ledger, score_fn=probe, rollback=0.1)
    assert not fused.any()
    assert ledger.record(2)["rolled-back"]
    assert ledger.record(2)["server-validation"] == {"before": 0.5, "after": None}


def test_scores_are_counted_once_of_those_that_were_asked_and_words_stay_words(tmp_path):
    def judging(name, *more, **metrics):
        def answer(message):
            if message.metadata.message_type != "evaluate":
                return node(name)(message)
            metrics_record = MetricRecord({"frozen": 50.0, "num-examples": 9, **metrics})
            config = ConfigRecord({"metric": "accuracy", "seen": True})
            return [*more, RecordDict({"metrics": metrics_record, "config": config})]  # the last one is taken first

        return answer

    other = Message(RecordDict({"metrics": MetricRecord({"frozen": 1e9})}), dst_node_id=1, message_type="evaluate")
    again = RecordDict({"metrics": MetricRecord({"frozen": 1e9})})
    ledger = Ledger.create(tmp_path / "run", {})
    nodes = [judging("a", again, head=1.0, metric=2.0, seen=3), judging("b", other)]
    _, result, _ = start(nodes, ledger=ledger)
    assert result.evaluate_metrics_clientapp[1]["frozen"] == 50.0
    for found in ledger.load_json(1, "scores.json").values():
        assert found == {"metric": "accuracy", "seen": True, "frozen": 50.0, "num-examples": 9}


@pytest.mark.parametrize("said", ["abc", 1, -3, 2.5, [1]])
def test_what_a_node_says_of_the_simulation_counts_in_a_simulation_alone(said, monkeypatch):
    monkeypatch.delattr(FakeGrid, "pull_interval")
    monkeypatch.setattr("coldfusion_fl.strategies.membership._POLL", 0.01)
    talker = node("a")

    def answer(message):
        if message.metadata.message_type != "query":
            return talker(message)
        return RecordDict({"config": ConfigRecord({"name": "a", "simulated-nodes": said})})

    fused, *_ = start([answer, node("b"), node("c"), node("d")])
    assert fused[0, 0] == 1


def packing(name, value, declare=None):
    """A node that sends what it is asked for; or says so, and sends something else."""

    def train(message):
        base = message.content["arrays"]["w"].numpy()
        compression = message.content["config"].get("compression", "float32")
        encoded, _ = encode({"w": base + np.float32(value)}, {"w": base}, compression)
        content = contribution(encoded.arrays["w"])
        content["scales"] = ArrayRecord({n: Array(a) for n, a in encoded.scales.items()})
        content["config"] = ConfigRecord({"compression": declare or compression})
        return content

    return node(name, train=train)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_contributions_travel_as_they_are_asked_to_and_who_does_not_know_takes_part(compression, tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    fused, _, grid = start(
        [packing("a", 1), packing("b", 2), node("plain", 6)], rounds=2, ledger=ledger, compression=compression
    )
    assert np.allclose(fused, 6, rtol=1e-5)
    asked = {m.content["config"].get("compression") for m in grid.sent if m.metadata.message_type == "train"}
    assert asked == {None if compression == "float32" else compression}
    assert ledger.record(1)["compression"] == compression
    assert ledger.record(1)["contributions"]["a"]["norm"] == pytest.approx(6**0.5, rel=1e-3)


@pytest.mark.parametrize(
    ("declare", "words"),
    [
        ("int4", "its compression 'int4' is unknown"),
        ("float16", "'w' is int8 of shape (2, 3), but float16 needs float16"),
    ],
)
def test_what_is_not_packed_as_it_says_is_rejected(declare, words, tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    fused, *_ = start([packing("a", 1), packing("b", 1), packing("bad", 9, declare)], ledger=ledger, compression="int8")
    (rejection,) = ledger.record(1)["rejected"]
    assert rejection["name"] == "bad"
    assert words in rejection["reason"]
    assert np.allclose(fused, 1)


def test_a_name_cannot_forge_lines(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})
    start([node("a\n\x1b[31mround 9" + "x" * 500), node("$\\frac$"), node("")], ledger=ledger)
    names = ledger.record(1)["sampled"]
    assert all(name.isprintable() and 0 < len(name) <= 100 for name in names)
    assert "$\\frac$" in names
    assert any(name.startswith("node-") for name in names)


def test_a_hundred_numbers_are_enough(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {})

    def chatty(message):
        content = contribution(np.ones(SHAPE, np.float32))
        content["more"] = MetricRecord({f"m{i}": float(i) for i in range(5000)})
        return content

    start([node("a"), node("b", train=chatty)], ledger=ledger)
    assert len(ledger.record(1)["contributions"]["b"]["reported"]) == 100


def test_the_ledger_keeps_the_arrays_of_the_last_rounds(unbroken, tmp_path):
    settings, nodes, whole = unbroken
    ledger = Ledger.create(tmp_path / "run", {})
    start(nodes, rounds=5, ledger=ledger, keep_last=2, **settings)
    assert sorted(p.parent.name for p in (ledger.folder / "rounds").rglob("base.safetensors")) == ["004", "005"]
    assert ledger.load_base(5)["w"].tobytes() == whole.load_base(5)["w"].tobytes()
    assert ledger.record(1)["base-sha256"] == whole.record(1)["base-sha256"]
    with pytest.raises(RunFolderError, match="not kept"):
        ledger.load_base(1)
