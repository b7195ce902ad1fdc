"""What the server does with an accepted reply while Flower's database is busy."""

import sqlite3
import time
from threading import Thread

import pytest
from flwr.app import MetricRecord
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from superlink_app import content

from coldfusion_fl.config.message_keys import UNREADABLE_REPLY
from coldfusion_fl.engines.deployment.superlink import reply_storage
from coldfusion_fl.strategies.nodes.messaging import UNREACHABLE


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(reply_storage, "_PAUSE", 0.01)


def asked(link):
    return link.send("a", content(metrics=MetricRecord({"round": 1})))


def upload(link, message):
    """The member replies to a message; afterwards the server has received the reply completely."""
    assert link.upload("a", link.reply_to(message, content(metrics=MetricRecord({"loss": 0.5})))).status_code == 200


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return found


def reply(link, message):
    """What the server's app gets, after a while."""
    [found] = wait_until(lambda: link.replies(message))
    return found


def fails(monkeypatch, owner, name, times, outcome):
    """Let a function fail some times before it works; returns the list of its failures."""
    plain, failed = getattr(owner, name), []

    def sometimes(*arguments):
        if len(failed) == times:
            return plain(*arguments)
        failed.append(name)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(owner, name, sometimes)
    return failed


BUSY = sqlite3.OperationalError("database is locked")
NOT_STORED = reply_storage.fleet_handlers.PushMessagesResponse()
NO_PART = reply_storage.message_pb2.PushObjectResponse(stored=False)
STEPS = [
    ("preregister", BUSY),
    ("put", BUSY),
    ("push_messages", BUSY),
    ("push_messages", NOT_STORED),
    ("push_object", NO_PART),
]
NAMES = ["parts", "part", "message", "message-ignored", "first-part-ignored"]


def owner(link, name):
    return reply_storage.fleet_handlers if name.startswith("push") else link.state.object_store


def unfinished(link):
    """The parts that Flower has announced, and no content of."""
    return link.state.object_store.query("SELECT object_id FROM objects WHERE is_available = 0")


@pytest.mark.parametrize(("name", "outcome"), STEPS, ids=NAMES)
def test_a_reply_is_stored_once_the_database_is_free_and_is_complete_when_it_is_seen(link, monkeypatch, name, outcome):
    message = asked(link)
    failed = fails(monkeypatch, owner(link, name), name, 3, outcome)
    upload(link, message)
    found = reply(link, message)
    assert not found.has_error()
    tree = link.state.object_store.get_object_tree(found.metadata.message_id)
    parts = [part.object_id for part in iterate_object_tree(tree)]
    assert len(parts) > 1
    assert all(link.state.object_store.get(part) for part in parts)
    assert len(failed) == 3
    assert not link.state.query("SELECT session_id FROM object_push_sessions")


def test_a_reply_that_is_asked_for_while_it_is_stored_is_complete(link, monkeypatch):
    message = asked(link)
    plain, found = reply_storage.fleet_handlers.push_messages, []

    def asked_at_once(*arguments):
        response = plain(*arguments)
        app = Thread(target=lambda: found.append((reply(link, message), unfinished(link))))
        app.start()
        app.join(timeout=0.5)
        return response

    monkeypatch.setattr(reply_storage.fleet_handlers, "push_messages", asked_at_once)
    upload(link, message)
    [(answer, missing)] = wait_until(lambda: found)
    assert not answer.has_error()
    assert not missing


@pytest.mark.parametrize("outcome", [BUSY, NOT_STORED], ids=["busy", "ignored"])
def test_a_reply_that_cannot_be_stored_does_not_count_against_its_member(link, monkeypatch, caplog, outcome):
    monkeypatch.setattr(reply_storage, "_PATIENCE", 0.1)
    message = asked(link)
    fails(monkeypatch, reply_storage.fleet_handlers, "push_messages", None, outcome)
    upload(link, message)
    error = reply(link, message).error
    assert error.code in UNREACHABLE
    assert "the server could not store its reply" in error.reason
    assert "A reply of member 'a' could not be stored" in caplog.text
    assert not unfinished(link)


@pytest.mark.parametrize(("name", "outcome"), [("start_session", BUSY), ("store_object", False)])
def test_the_error_in_place_of_a_rejected_reply_is_stored_once_the_database_is_free(link, monkeypatch, name, outcome):
    message = asked(link)
    failed = fails(monkeypatch, type(link.state), name, 3, outcome)
    many = {f"r{number}": MetricRecord({"x": number}) for number in range(300)}
    assert link.announce("a", link.reply_to(message, content(**many))).status_code == 403
    found = reply(link, message)
    assert found.error.code == UNREADABLE_REPLY
    assert link.state.object_store.get(found.metadata.message_id)
    assert len(failed) == 3


def test_a_reply_to_a_message_that_is_gone_is_dropped(link, monkeypatch, caplog):
    plain = link.state.object_store.preregister

    def gone(*arguments):
        link.state.delete_messages({message.metadata.message_id})
        plain(*arguments)
        raise BUSY

    message = asked(link)
    monkeypatch.setattr(link.state.object_store, "preregister", gone)
    upload(link, message)
    wait_until(lambda: "no message waits for it any more" in caplog.text)
    wait_until(lambda: not unfinished(link))
