"""The space of replies that are not complete, and what becomes of it."""

import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord
from flwr.proto.fleet_pb2 import PushMessagesResponse
from flwr.proto.message_pb2 import PushObjectResponse
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from superlink_app import content

from coldfusion_fl.engines.deployment.superlink import reply_gate


def arrays(seed=0):
    return ArrayRecord({"w": Array(np.random.default_rng(seed).random(1000, np.float32))})


def asked(link, name="a"):
    return link.send(name, content(arrays=arrays()))


@pytest.fixture
def files(monkeypatch):
    """The temporary files of all replies."""
    made, plain = [], tempfile.TemporaryFile

    def remember(**options):
        made.append(plain(**options))
        return made[-1]

    monkeypatch.setattr(tempfile, "TemporaryFile", remember)
    return made


@pytest.mark.parametrize("cause", ["run", "member", "message"])
def test_an_unfinished_reply_that_nobody_waits_for_leaves_nothing(link, files, cause):
    message = asked(link)
    link.announce("a", link.reply_to(message, content(arrays=arrays(1))))
    other = asked(link, "b")
    if cause == "run":
        link.state.cleanup_run(link.run)
        other = asked(link, "b")
    elif cause == "member":
        change(link, "node", "status = 'unregistered'", "node_id", signed_number(link.nodes["a"]))
    else:
        change(link, "message_ins", "ttl = 0", "message_id", message.metadata.message_id)
    assert not files[0].closed
    reply = link.reply_to(other, content(arrays=arrays(2)))
    assert link.announce("b", reply).status_code == 200
    assert [file.closed for file in files] == [True, False]
    change(link, "node", "status = 'online'", "status", "unregistered")
    assert link.upload("b", reply).status_code == 200
    deadline = time.monotonic() + 30
    while not files[1].closed:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def signed_number(node):
    """A node's ID as the database has it."""
    return node - 2**64 if node >= 2**63 else node


def change(link, table, what, column, value):
    link.state.query(f"UPDATE {table} SET {what} WHERE {column} = :value", {"value": value})


def test_a_reply_that_is_announced_twice_at_once_has_one_file(link, files, monkeypatch):
    message = asked(link)
    reply = link.reply_to(message, content(arrays=arrays(1)))
    both, plain = threading.Barrier(2), reply_gate.StagedReply

    def together(*arguments):
        both.wait(30)
        return plain(*arguments)

    monkeypatch.setattr(reply_gate, "StagedReply", together)
    with ThreadPoolExecutor(2) as threads:
        asked_twice = [threads.submit(link.announce, "a", reply) for _ in range(2)]
        assert [answer.result().status_code for answer in asked_twice] == [200, 200]
    assert sorted(file.closed for file in files) == [False, True]


def test_a_member_holds_the_space_of_two_unfinished_replies_at_most(link):
    replies = [
        link.reply_to(link.send("a", content(config=ConfigRecord({"round": number}))), content(arrays=arrays(number)))
        for number in range(3)
    ]
    sessions = [PushMessagesResponse.FromString(link.announce("a", reply).content).session_id for reply in replies]
    parts = [next(iter(get_all_nested_objects(reply).items())) for reply in replies]
    stored = [
        PushObjectResponse.FromString(link.push("a", session, part[0], part[1].deflate()).content).stored
        for session, part in zip(sessions, parts, strict=True)
    ]
    assert stored == [False, True, True]
