"""The log of what a node trained, sent and reported to the server."""

import re

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from coldfusion_fl.clients import message_log
from coldfusion_fl.clients.client_app import contributor_app
from coldfusion_fl.clients.message_log import log_messages, note_problem
from coldfusion_fl.errors import DataError


@pytest.fixture(autouse=True)
def server_identity(monkeypatch):
    for name in ("_task_id", "_run_id", "_node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


@pytest.fixture
def file(tmp_path):
    return tmp_path / "messages.log"


def exchange(file, kind, reply, **config):
    """Log a message of a kind, with this config, and the reply to it that has this content."""
    message = Message(RecordDict({"config": ConfigRecord(config)}), dst_node_id=2, message_type=kind)
    context = Context(1, 2, {"task": "reviews", "message-log": str(file)} if file else {}, RecordDict(), {})
    sent = log_messages(message, context, lambda message, context: Message(reply, reply_to=message))
    lines = file.read_text(encoding="utf-8").splitlines() if file else []
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", line) for line in lines)
    return sent, [line.split(" ", 2)[2] for line in lines]


def test_a_training_is_logged_with_what_was_sent_and_reported(file):
    reply = RecordDict(
        {
            "arrays": ArrayRecord({name: Array(np.zeros((250, 1000), np.float16)) for name in ("w", "v")}),
            "metrics": MetricRecord(
                {"loss": 0.25, "dev-score": 81.5, "num-examples": 320, "steps": 20, "seconds": 9.5}
            ),
            "config": ConfigRecord({"coldfusion.compression": "float16"}),
        }
    )
    sent, lines = exchange(file, "train", reply, **{"coldfusion.round": 3})
    assert sent.content is reply
    trained, arrays, reported = lines
    assert trained == "round 3: trained on 'reviews': 320 rows, 20 steps, 9.5 s, loss 0.25, dev score 81.5"
    assert re.fullmatch(r"round 3: sent arrays: 2 arrays of float16, 1\.0 MB, compression float16", arrays)
    assert reported == (
        "round 3: reported to the server: loss=0.25, dev-score=81.5, num-examples=320, steps=20, seconds=9.5, "
        "coldfusion.compression=float16"
    )


@pytest.mark.parametrize(("asked", "ending"), [("embeddings", ", embeddings frozen"), ("nothing", "")])
def test_what_the_server_asks_not_to_train_is_logged(file, asked, ending):
    reply = RecordDict({"metrics": MetricRecord({"num-examples": 320})})
    _, lines = exchange(file, "train", reply, **{"finetune.freeze": asked})
    assert lines[0] == f"trained on 'reviews': 320 rows{ending}"


def test_a_score_is_logged_with_all_that_is_reported(file):
    reply = RecordDict(
        {
            "metrics": MetricRecord({"frozen": 71.25, "num-examples": 200}),
            "config": ConfigRecord({"metric": "accuracy", "seen": True}),
        }
    )
    _, lines = exchange(file, "evaluate", reply, **{"coldfusion.round": 2})
    assert lines == [
        "round 2: scored the base on 'reviews': 200 test rows",
        "round 2: reported to the server: frozen=71.25, num-examples=200, metric=accuracy, seen=True",
    ]


def test_the_answer_to_a_query_is_logged(file):
    _, lines = exchange(file, "query", RecordDict({"config": ConfigRecord({"name": "hospital"})}))
    assert lines == ["reported to the server: name=hospital"]


def test_an_error_is_logged_and_cannot_forge_lines(file):
    _, lines = exchange(
        file, "train", Error(code=1, reason="bad\n2026-01-01 00:00:00 \x1b[1mfine"), **{"coldfusion.round": 1}
    )
    problem, reported = lines
    assert problem.startswith("PROBLEM: bad 2026-01-01 00:00:00 ?[1mfine. Nothing else was sent")
    assert reported == "round 1: reported an error to the server: bad?2026-01-01 00:00:00 ?[1mfine"


def test_the_problem_of_a_query_has_a_line_of_its_own_that_says_what_to_do(file):
    problem = "the frozen weights of this node's base are not those of the run. Set the node's 'base' to the other one."
    reply = RecordDict({"config": ConfigRecord({"name": "hospital", "versions": "x" * 90, "problem": problem})})
    _, lines = exchange(file, "query", reply)
    assert lines[0] == (
        f"PROBLEM: {problem} Until this is solved, this node takes no part in the run. If you change its settings, "
        "start it again. The server asks again every minute while it waits for members, and at the start of each round."
    )
    assert lines[1].startswith("reported to the server: name=hospital, ")


def test_the_same_problem_of_the_next_query_is_one_short_line(file, monkeypatch):
    same = "reported to the server: the same problem as before"

    def answer(problem=""):
        about = {"problem": problem} if problem else {}
        _, lines = exchange(file, "query", RecordDict({"config": ConfigRecord({"name": "hospital", **about})}))
        return lines

    first = answer("another base: é" + "x" * 300)
    for _ in range(3):
        lines = answer("another base: é" + "x" * 300)
    assert lines == [*first, same, same, same]
    lines = answer("other versions")  # another problem
    assert lines[-2].startswith("PROBLEM: other versions.") and lines[-1] != same
    answer()  # it was solved meanwhile
    assert answer("other versions")[-2].startswith("PROBLEM: other versions.")
    monkeypatch.setattr(message_log, "_COMPARED_BYTES", 100)  # it was long ago
    assert answer("other versions")[-2].startswith("PROBLEM: other versions.")


@pytest.mark.parametrize("kind", ["query", "train", "evaluate"])
def test_the_log_has_the_details_that_the_server_is_not_told(file, tmp_path, kind):
    missing = tmp_path / "no model"
    config = {"task": "a", "base": str(missing), "message-log": str(file)}
    message = Message(
        RecordDict({"config": ConfigRecord({"finetune.freeze": "embeddings", "frozen-sha256": "0a1b"})}),
        dst_node_id=2,
        message_type=kind,
    )
    reply = contributor_app()(message, Context(1, 2, config, RecordDict(), {}))
    log = file.read_text(encoding="utf-8")
    first = log.splitlines()[0].split(" ", 2)[2]
    assert first.startswith("PROBLEM: ") and "details are in" not in first
    assert "the details are in the contributor's own log" in log.splitlines()[-1]
    assert str(tmp_path) not in (reply.error.reason if reply.has_error() else reply.content["config"]["problem"])
    if kind == "query":
        assert str(missing) in first


def test_the_problem_of_one_message_is_not_that_of_the_next(file):
    def fails(message, context):
        note_problem(DataError("no rows"))
        return Message(Error(code=2, reason="DataError"), reply_to=message)

    context = Context(1, 2, {"message-log": str(file)}, RecordDict(), {})
    message = Message(RecordDict(), dst_node_id=2, message_type="train")
    log_messages(message, context, fails)
    log_messages(message, context, lambda message, context: Message(Error(code=2), reply_to=message))
    lines = [line.split(" ", 2)[2] for line in file.read_text().splitlines()]
    assert lines[0].startswith("PROBLEM: no rows.")
    assert lines[2].startswith("PROBLEM: unknown.")


def test_nothing_is_logged_without_a_file(tmp_path):
    sent, _ = exchange(None, "query", RecordDict())
    assert not sent.has_error()
    assert not list(tmp_path.iterdir())


def test_a_log_that_cannot_be_written_loses_no_reply(tmp_path):
    message = Message(RecordDict(), dst_node_id=2, message_type="query")
    context = Context(1, 2, {"message-log": str(tmp_path / "missing" / "messages.log")}, RecordDict(), {})
    reply = Message(RecordDict(), reply_to=message)
    assert log_messages(message, context, lambda message, context: reply) is reply


def test_a_full_disk_is_a_warning_and_loses_no_reply(monkeypatch, capsys):
    warnings = []
    monkeypatch.setattr(message_log, "log", lambda level, text, *values: warnings.append(text % values))
    message = Message(RecordDict(), dst_node_id=2, message_type="query")
    context = Context(1, 2, {"message-log": "/dev/full"}, RecordDict(), {})
    reply = Message(RecordDict(), reply_to=message)
    assert log_messages(message, context, lambda message, context: reply) is reply
    assert [text for text in warnings if "No space left" in text] == warnings != []
    assert "Traceback" not in capsys.readouterr().err


def test_the_log_does_not_grow_without_bound(file, monkeypatch):
    monkeypatch.setattr(message_log, "_MAX_BYTES", 500)
    for _ in range(60):
        exchange(file, "query", RecordDict({"config": ConfigRecord({"name": "x" * 100})}))
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, *(f"{file.name}.{n}" for n in (1, 2, 3))]
    assert all(path.stat().st_size <= 500 for path in file.parent.iterdir())
