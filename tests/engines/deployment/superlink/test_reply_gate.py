"""Which replies reach Flower: complete ones, within the budget, that answer a message of the server."""

import json
import math
import time

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord
from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import PushObjectResponse
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_id, get_object_tree
from superlink_app import content, signed

from coldfusion_fl.config.message_keys import UNREADABLE_REPLY

PUSH = "/v1/fleet/push-messages"


def arrays(seed=0, size=1000):
    return ArrayRecord({"w": Array(np.random.default_rng(seed).random(size, np.float32))})


def asked(link, name="a"):
    return link.send(name, content(arrays=arrays(), config=ConfigRecord({"round": 1})))


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_complete_reply_reaches_flower(link):
    message = asked(link)
    reply = link.reply_to(message, content(arrays=arrays(1), metrics=MetricRecord({"loss": 0.5})))
    before = link.stored()
    assert link.upload("a", reply).status_code == 200
    until(lambda: link.state.num_message_res() == 1)
    until(lambda: link.stored() > before + 4000)
    [found] = link.replies(message)
    assert found.metadata.message_id == reply.metadata.message_id
    objects = get_all_nested_objects(reply)
    assert all(link.state.object_store.get(object_id) == part.deflate() for object_id, part in objects.items())


def test_an_announced_reply_is_not_there_before_it_is_complete(link):
    message = asked(link)
    before = link.stored()
    assert link.announce("a", link.reply_to(message, content(arrays=arrays(1)))).status_code == 200
    assert not link.replies(message)
    assert (link.state.num_message_res(), link.stored()) == (0, before)


def test_a_reply_with_arrays_of_the_base_is_accepted(link):
    message = asked(link)
    reply = link.reply_to(message, content(arrays=arrays(), config=ConfigRecord({"round": 1})))
    assert link.upload("a", reply).status_code == 200
    until(lambda: link.state.num_message_res() == 1)


def test_repeated_requests_are_answered_again(link):
    """A member repeats a request when the response was lost."""
    message = asked(link)
    reply = link.reply_to(message, content(metrics=MetricRecord({"loss": 0.5})))
    first, again = (PushMessagesResponse.FromString(link.announce("a", reply).content) for _ in range(2))
    assert set(first.objects_to_push) == set(again.objects_to_push)
    objects = get_all_nested_objects(reply)
    for object_id, part in [*objects.items(), *objects.items()]:
        response = link.push("a", again.session_id, object_id, part.deflate())
        assert PushObjectResponse.FromString(response.content).stored
    late = PushMessagesResponse.FromString(link.announce("a", reply).content)
    assert not late.objects_to_push


_ERROR = 1000  # bytes


def is_rejected(link, response, before, caplog, reason):
    """Whether nothing of a reply is stored, but perhaps an error in its place."""
    assert response.status_code == 403
    assert reason in response.text
    assert "Rejected a reply of member 'a'" in caplog.text
    assert reason in caplog.text
    return link.stored() <= before + _ERROR


def test_a_reply_of_many_times_the_base_is_rejected_and_the_server_learns_it_at_once(link, caplog):
    message = asked(link)
    before = link.stored()
    large = content(arrays=arrays(1, 5_000_000))  # 20 MB in place of 4 kB
    assert is_rejected(link, link.upload("a", link.reply_to(message, large)), before, caplog, "more than the 16 MiB")
    [error] = link.replies(message)
    assert error.error.code == UNREADABLE_REPLY
    assert "more than the 16 MiB" in error.error.reason
    assert error.metadata.src_node_id == link.nodes["a"]


def test_the_error_in_place_of_a_rejected_reply_is_complete(link):
    message = asked(link)
    many = {f"r{number}": MetricRecord({"x": number}) for number in range(300)}
    link.upload("a", link.reply_to(message, content(**many)))
    [error] = link.replies(message)
    part = link.state.object_store.get(error.metadata.message_id)
    assert b"parts" in part


def test_a_rejected_reply_cannot_be_sent_again(link):
    message = asked(link)
    many = {f"r{number}": MetricRecord({"x": number}) for number in range(300)}
    for _ in range(2):
        assert link.announce("a", link.reply_to(message, content(**many))).status_code == 403
    assert link.announce("a", link.reply_to(message, content(metrics=MetricRecord({"x": 1})))).status_code == 403
    [error] = link.replies(message)
    assert error.error.code == UNREADABLE_REPLY


@pytest.mark.parametrize(
    "changes",
    [
        {"ttl": math.nan},
        {"created_at": math.nan},
        {"ttl": 1e9},
        {"ttl": -1.0},
        {"dst_node_id": 5},
        {"message_type": ""},
    ],
    ids=str,
)
def test_metadata_of_a_reply_follow_from_its_message(link, changes):
    """Flower stores what a node says of its reply. With NaN as a time it fails whenever the app asks for replies."""
    message = asked(link)
    reply = link.reply_to(message, content(metrics=MetricRecord({"loss": 0.5})))
    announced = PushMessagesResponse.FromString(link.announce("a", reply, **changes).content)
    for object_id, part in get_all_nested_objects(reply).items():
        link.push("a", announced.session_id, object_id, part.deflate())
    until(lambda: link.state.num_message_res() == 1)
    [found] = link.replies(message)
    assert (found.metadata.message_type, found.metadata.dst_node_id) == ("train", message.metadata.src_node_id)
    rejected = asked_again(link, 2)
    many = {f"r{number}": MetricRecord({"x": number}) for number in range(300)}
    assert link.announce("a", link.reply_to(rejected, content(**many)), **changes).status_code == 403
    [error] = link.replies(rejected)
    assert error.error.code == UNREADABLE_REPLY


def test_a_large_base_allows_large_replies(link):
    message = link.send("a", content(arrays=arrays(0, 2_000_000)))
    assert link.upload("a", link.reply_to(message, content(arrays=arrays(1, 5_000_000)))).status_code == 200


def test_a_base_that_is_stored_already_counts_too(link):
    """After a restart, Flower does not ask the server's app for parts that it still has."""
    first = link.send("b", content(arrays=arrays(0, 2_000_000)))
    link.state.delete_messages({first.metadata.message_id})
    link.app.middleware_stack = None  # the middleware begins anew, as after a restart
    message = link.send("a", content(arrays=arrays(0, 2_000_000)))
    assert link.upload("a", link.reply_to(message, content(arrays=arrays(1, 5_000_000)))).status_code == 200


def test_a_query_after_a_restart_does_not_lower_what_replies_of_the_round_may_have(link):
    message = link.send("a", content(arrays=arrays(0, 5_000_000)))
    link.app.middleware_stack = None  # the middleware begins anew, as after a restart
    link.send("b", content())
    assert link.upload("a", link.reply_to(message, content(arrays=arrays(1, 5_000_000)))).status_code == 200


def test_a_reply_of_many_parts_is_rejected(link, caplog):
    message = asked(link)
    many = {f"r{number}": MetricRecord({"x": number}) for number in range(300)}
    assert is_rejected(link, link.upload("a", link.reply_to(message, content(**many))), link.stored(), caplog, "parts")


def test_metrics_of_any_size_are_not_accepted_with_a_large_base(link, caplog):
    """In memory they are several times as large as they are sent."""
    message = link.send("a", content(arrays=arrays(0, 2_000_000)))
    many = {f"r{number}": MetricRecord({"x": [float(number)] * 250_000}) for number in range(10)}  # 2 MB each
    response = link.upload("a", link.reply_to(message, content(**many)))
    assert is_rejected(link, response, link.stored(), caplog, "more than the 16 MiB that are accepted beside arrays")


def test_a_chunk_that_is_used_many_times_counts_as_often(link, caplog):
    """An array of few bytes must not become one of gigabytes in the server's memory."""
    message = asked(link)
    reply = link.reply_to(message, content(arrays=arrays(1, 2**18)))
    objects = {object_id: part.deflate() for object_id, part in get_all_nested_objects(reply).items()}
    [(array_id, array)] = [(name, part) for name, part in objects.items() if part.startswith(b"Array ")]
    head, _, body = array.partition(b"\x00")
    body = json.dumps(json.loads(body) | {"arraychunk_ids": [0] * 1000}).encode()
    bomb = b" ".join([*head.split(b" ")[:2], str(len(body)).encode()]) + b"\x00" + body
    replaced = {array_id: get_object_id(bomb)}
    tree, contents = rename(get_object_tree(reply), objects, replaced, bomb)
    reply.metadata.__dict__["_message_id"] = tree.object_id
    response = link.announce("a", reply, tree)
    assert response.status_code == 200, response.text
    for object_id, part in contents.items():
        response = link.push("a", tree.object_id, object_id, part)
    assert is_rejected(link, response, link.stored(), caplog, "1,000 MiB in memory")


def rename(tree, objects, replaced, bomb):
    """A tree with one part exchanged: the hashes of all parts above it change."""
    contents = {}

    def visit(node):
        if node.object_id in replaced:
            contents.update({child.object_id: objects[child.object_id] for child in node.children})
            node.object_id = replaced[node.object_id]
            contents[node.object_id] = bomb
            return
        before = [child.object_id for child in node.children]
        for child in node.children:
            visit(child)
        part = objects[node.object_id]
        for old, child in zip(before, node.children, strict=True):
            part = part.replace(old.encode(), child.object_id.encode())
        node.object_id = get_object_id(part)
        contents[node.object_id] = part

    visit(tree)
    return tree, contents


def test_a_tree_that_claims_the_bases_parts_without_their_children_is_rejected(link, caplog):
    """Flower alone would store it, and reject the server's own messages with that base from then on."""
    message = asked(link)
    link.state.object_store.delete(message.metadata.message_id)  # as when every member has it
    reply = link.reply_to(message, content(arrays=arrays()))
    tree = get_object_tree(reply)
    record = tree.children[0].children[0]
    del record.children[:]
    assert link.announce("a", reply, tree).status_code == 200
    response = link.push("a", tree.object_id, record.object_id, arrays().deflate())
    assert is_rejected(link, response, link.stored(), caplog, "other parts than it has announced")
    asked(link, "b")


def test_a_tree_that_contradicts_itself_is_rejected(link, caplog):
    message = asked(link)
    reply = link.reply_to(message, content(x=arrays(1), y=arrays(1)))
    tree = get_object_tree(reply)
    tree.children[0].children.add().CopyFrom(tree.children[0].children[0])
    assert is_rejected(link, link.announce("a", reply, tree), link.stored(), caplog, "contradicts itself")


@pytest.mark.parametrize(
    ("sent", "reason"),
    [(b"these bytes are no part", "not what its hash says"), (b"Array \x00", "not what its hash says")],
)
def test_a_part_that_is_something_else_is_rejected(link, caplog, sent, reason):
    reply = link.reply_to(asked(link), content(arrays=arrays(1)))
    assert link.announce("a", reply).status_code == 200
    response = link.push("a", reply.metadata.message_id, reply.metadata.message_id, sent)
    assert is_rejected(link, response, link.stored(), caplog, reason)


def test_a_part_that_belongs_to_no_reply_is_not_stored(link, caplog):
    asked(link)
    before = link.stored()
    response = link.push("a", "unknown", get_object_id(b"x"), b"x")
    assert not PushObjectResponse.FromString(response.content).stored
    assert link.stored() == before
    assert "it belongs to no announced reply" in caplog.text


def test_a_reply_that_answers_nothing_is_rejected(link, caplog):
    message = asked(link)
    reply = link.reply_to(message, content(metrics=MetricRecord({"loss": 0.5})))
    before = link.stored()
    for changes in ({"reply_to_message_id": "0" * 64}, {"run_id": 7}):
        assert is_rejected(link, link.announce("a", reply, **changes), before, caplog, "answers no open message")
    other = link.reply_to(asked(link, "b"), content(metrics=MetricRecord({"loss": 0.5})))
    response = link.announce("a", other, src_node_id=link.nodes["a"])
    assert "answers no open message" in response.text
    assert not link.replies(message)  # it still waits for its answer


def test_a_message_is_answered_once(link):
    message = asked(link)
    assert link.upload("a", link.reply_to(message, content(metrics=MetricRecord({"loss": 0.5})))).status_code == 200
    again = link.reply_to(message, content(metrics=MetricRecord({"loss": 0.1})))
    assert link.announce("a", again).status_code == 403


def test_the_second_of_two_announced_replies_to_a_message_is_rejected_when_it_is_complete(link, caplog):
    message = asked(link)
    replies = [link.reply_to(message, content(metrics=MetricRecord({"loss": loss}))) for loss in (0.5, 0.6)]
    for reply in replies:
        assert link.announce("a", reply).status_code == 200
    assert link.upload("a", replies[0]).status_code == 200
    objects = get_all_nested_objects(replies[1])
    sent = [link.push("a", replies[1].object_id, name, part.deflate()) for name, part in objects.items()]
    assert [response.status_code for response in sent] == [200] * (len(objects) - 1) + [403]
    assert "it is a second reply to one message" in caplog.text
    until(lambda: link.state.num_message_res() == 1)
    [found] = link.replies(message)
    assert found.metadata.message_id == replies[0].object_id


def test_a_member_cannot_reply_for_another(link, caplog):
    reply = link.reply_to(asked(link, "b"), content(metrics=MetricRecord({"loss": 0.5})))
    response = link.announce("a", reply)
    assert response.status_code == 403
    a, b = link.nodes["a"], link.nodes["b"]
    assert f"it names node {b} as its sender, but node {a} signed the request" in caplog.text
    request = PushMessagesRequest()
    request.node.node_id = b
    assert link.post(PUSH, request, signed(link.keys["a"])).status_code == 403


@pytest.mark.parametrize("body", [b"\xff\xff", b""])
def test_an_unreadable_announcement_is_rejected(link, body):
    assert link.post(PUSH, body, signed(link.keys["a"])).status_code == 403


def asked_again(link, number):
    return link.send("a", content(config=ConfigRecord({"round": number})))
