"""In whose name a member may answer."""

import pytest
from flwr.proto.fleet_pb2 import PushMessagesRequest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from coldfusion_fl.engines.deployment.superlink.sender_check import SenderCheck

PUSH = "/v1/fleet/push-messages"


@pytest.fixture
def post():
    async def echo(request):
        return Response(await request.body())

    routes = [Route(path, echo, methods=["POST"]) for path in (PUSH, "/v1/fleet/pull-messages")]
    app = Starlette(routes=routes, middleware=[Middleware(SenderCheck)])
    return TestClient(app, client=("203.0.113.7", 50000)).post


def replies(node, *senders):
    request = PushMessagesRequest()
    request.node.node_id = node
    for sender in senders:
        request.messages_list.add().metadata.src_node_id = sender
    return request.SerializeToString()


def test_a_reply_of_the_sender_passes_unchanged(post):
    body = replies(7, 7, 7)
    answer = post(PUSH, content=body)
    assert (answer.status_code, answer.content) == (200, body)


@pytest.mark.parametrize("senders", [(8,), (7, 8), (0,)])
def test_a_reply_in_the_name_of_another_node_is_rejected_and_logged(post, senders, caplog):
    assert post(PUSH, content=replies(7, *senders)).status_code == 403
    assert (
        f"it contains a reply that names node {senders[-1]} as its sender, but node 7 signed the request" in caplog.text
    )


def test_an_unreadable_reply_is_rejected(post):
    assert post(PUSH, content=b"\xff\xff").status_code == 403


def test_other_requests_pass_unread(post):
    assert post("/v1/fleet/pull-messages", content=b"\xff\xff").content == b"\xff\xff"


def test_a_request_with_too_many_replies_is_rejected(post, caplog):
    assert post(PUSH, content=replies(7, *[7] * 101)).status_code == 403
    assert "101 replies at once" in caplog.text
