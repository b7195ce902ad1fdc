"""What the server does with an accepted reply while Flower's database is busy."""

import sqlite3
import time

import pytest
from flwr.app import MetricRecord
from superlink_app import content

from coldfusion_fl.config.message_keys import UNREADABLE_REPLY
from coldfusion_fl.engines.deployment.superlink import reply_storage
from coldfusion_fl.strategies.nodes.messaging import UNREACHABLE


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(reply_storage, "_PAUSE", 0.01)


def asked(link):
    return link.send("a", content(metrics=MetricRecord({"round": 1})))


def uploaded(link):
    """A message whose reply the server has received completely."""
    message = asked(link)
    assert link.upload("a", link.reply_to(message, content(metrics=MetricRecord({"loss": 0.5})))).status_code == 200
    return message


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


@pytest.mark.parametrize(
    ("name", "outcome"),
    [("push_messages", BUSY), ("push_messages", NOT_STORED), ("push_object", BUSY), ("push_object", NO_PART)],
    ids=["announcement", "announcement-ignored", "part", "part-ignored"],
)
def test_a_reply_is_stored_once_the_database_is_free(link, monkeypatch, name, outcome):
    failed = fails(monkeypatch, reply_storage.fleet_handlers, name, 3, outcome)
    found = reply(link, uploaded(link))
    assert not found.has_error()
    wait_until(lambda: link.state.object_store.get(found.metadata.message_id))
    assert len(failed) == 3


@pytest.mark.parametrize(("name", "outcome"), [("push_messages", BUSY), ("push_messages", NOT_STORED)])
def test_a_reply_that_cannot_be_stored_does_not_count_against_its_member(link, monkeypatch, caplog, name, outcome):
    monkeypatch.setattr(reply_storage, "_PATIENCE", 0.1)
    fails(monkeypatch, reply_storage.fleet_handlers, name, None, outcome)
    error = reply(link, uploaded(link)).error
    assert error.code in UNREACHABLE
    assert "the server could not store its reply" in error.reason
    assert "A reply of member 'a' could not be stored" in caplog.text


def test_a_reply_that_is_stored_in_part_is_given_up(link, monkeypatch):
    monkeypatch.setattr(reply_storage, "_PATIENCE", 0.1)
    fails(monkeypatch, reply_storage.fleet_handlers, "push_object", None, NO_PART)
    message = uploaded(link)
    wait_until(lambda: not link.state.num_message_ins())  # Flower answers in its place from then on
    assert link.state.num_message_res() == 0
    assert reply(link, message).error.code in UNREACHABLE


def test_the_error_in_place_of_a_rejected_reply_is_stored_once_the_database_is_free(link, monkeypatch):
    message = asked(link)
    fails(monkeypatch, type(link.state), "start_session", 3, BUSY)
    many = {f"r{number}": MetricRecord({"x": number}) for number in range(300)}
    assert link.announce("a", link.reply_to(message, content(**many))).status_code == 403
    assert reply(link, message).error.code == UNREADABLE_REPLY


def test_a_reply_to_a_message_that_is_gone_is_dropped(link, monkeypatch, caplog):
    failed = fails(monkeypatch, reply_storage.fleet_handlers, "push_messages", 1, BUSY)
    plain = link.state.query

    def gone(*arguments):
        link.state.delete_messages({message.metadata.message_id})
        return plain(*arguments)

    message = asked(link)
    monkeypatch.setattr(link.state, "query", gone)
    link.upload("a", link.reply_to(message, content(metrics=MetricRecord({"loss": 0.5}))))
    wait_until(lambda: "no message waits for it any more" in caplog.text)
    assert len(failed) == 1
