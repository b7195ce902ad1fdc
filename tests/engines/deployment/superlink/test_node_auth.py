"""Whose bodies the server reads: those of members, for a while."""

import asyncio
import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from superlink_app import PROTOBUF, signed

from coldfusion_fl.engines.deployment.superlink.node_auth import MAX_REQUEST, NODE, NodeAuthentication
from coldfusion_fl.engines.deployment.superlink.rejection_log import RejectionLog

KEY = ec.generate_private_key(ec.SECP384R1())
PULL, ADMISSION = "/v1/fleet/pull-messages", "/v1/fleet/activate-node"


class State:
    def get_node_id_by_public_key(self, key):
        return 7 if key == public(KEY) else None


def public(key):
    return base64.b64decode(signed(key)["flwr-public-key"])


class Server:
    """The middleware before an app that counts, and the body of a request that arrives in pieces."""

    def __init__(self, seconds=20.0):
        self.served = []
        self.read = 0
        self.status = None
        self.middleware = NodeAuthentication(self.serve, RejectionLog(), lambda: {7: "alice"}, seconds)

    async def serve(self, scope, receive, send):
        self.served.append((scope.get(NODE), await receive()))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def post(self, headers, pieces=(b"x",), path=PULL, length=None):
        pieces = list(pieces)

        async def receive():
            if not pieces:
                await asyncio.sleep(60)
            self.read += 1
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces) or length is not None}

        async def send(message):
            self.status = message.get("status", self.status)

        size = sum(map(len, pieces)) if length is None else length
        named = {**PROTOBUF, "content-length": str(size)} | headers
        scope = {
            "type": "http",
            "path": path,
            "app": Application,
            "client": ("203.0.113.7", 50000),
            "headers": [(name.encode(), value.encode()) for name, value in named.items()],
        }
        await self.middleware(scope, receive, send)
        return self.status


class Application:
    class state:
        class linkstate_factory:
            state = State


def post(server, *arguments, **options):
    return asyncio.run(server.post(*arguments, **options))


def test_a_members_request_arrives_whole_with_its_node():
    server = Server()
    assert post(server, signed(KEY), [b"ab", b"c"]) == 200
    [(node, message)] = server.served
    assert (node, message["body"], message["more_body"]) == (7, b"abc", False)


def other(**changes):
    return signed(KEY) | changes


@pytest.mark.parametrize(
    "headers",
    [
        {},
        signed(ec.generate_private_key(ec.SECP384R1())),
        other(**{"flwr-timestamp": "2020-01-01T00:00:00+00:00"}),
        other(**{"flwr-timestamp": "today"}),
        other(**{"flwr-signature": "AAAA"}),
        other(**{"flwr-signature": "?"}),
        other(**{"flwr-public-key": "AAAA"}),
    ],
)
def test_a_strangers_body_is_not_read(headers, caplog):
    server = Server()
    assert post(server, headers) == 401
    assert (server.read, server.served) == (0, [])
    assert "Rejected a request from 203.0.113.7 for /v1/fleet/pull-messages" in caplog.text


def test_a_stranger_may_ask_to_be_admitted_in_few_bytes():
    """Flower's answer tells a member that its key is unknown."""
    assert post(Server(), {}, path=ADMISSION) == 200
    assert post(Server(), {}, [b"x" * 5000], path=ADMISSION) == 401


@pytest.mark.parametrize("said", [{"content-length": str(MAX_REQUEST + 1)}, {"transfer-encoding": "chunked"}])
def test_a_members_large_request_is_rejected_unread_by_its_name(said, caplog):
    server = Server()
    assert post(server, signed(KEY) | said) == 413
    assert server.read == 0
    assert "Rejected a request from member 'alice' at 203.0.113.7" in caplog.text


def test_a_body_that_does_not_arrive_is_given_up(caplog):
    server = Server(seconds=0.1)
    assert post(server, signed(KEY), [b"x"], length=100) == 503  # Flower's SuperNode repeats the request
    assert not server.served
    assert "its 100 bytes did not arrive" in caplog.text


def test_a_member_has_at_most_eight_requests_at_once(caplog):
    """More would hold bodies in memory, and connections that may not be closed."""

    async def flood():
        server = Server(seconds=2)
        asked = [asyncio.create_task(server.post(signed(KEY), [b"x"], length=100)) for _ in range(20)]
        while sum(task.done() for task in asked) < 12:
            await asyncio.sleep(0.01)
        found = server.read, {task.result() for task in asked if task.done()}
        await asyncio.gather(*asked)
        return *found, await server.post(signed(KEY))

    assert asyncio.run(flood()) == (8, {503}, 200)
    assert "8 others of it are not finished" in caplog.text


def test_other_interfaces_pass():
    assert post(Server(), {}, path="/v1/control/list-nodes") == 200
