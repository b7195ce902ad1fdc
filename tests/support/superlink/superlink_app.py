"""Flower's SuperLink as an app in this process, behind our middleware, with a run and two members."""

import base64
import contextlib
import time
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.app import Message, RecordDict
from flwr.app.message import make_message
from flwr.app.message.message import remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID, SUPERLINK_NODE_ID
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import PushObjectRequest, PushObjectResponse
from flwr.proto.node_pb2 import Node
from flwr.proto.runtime_pb2 import PushAppMessagesRequest, PushAppMessagesResponse
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message
from flwr.superlink import extensions
from flwr.superlink.main import create_app
from starlette.middleware import Middleware
from starlette.testclient import TestClient

from coldfusion_fl.engines.deployment.superlink.access_control import AccessControl
from coldfusion_fl.engines.deployment.superlink.node_auth import NodeAuthentication
from coldfusion_fl.engines.deployment.superlink.rejection_log import RejectionLog
from coldfusion_fl.engines.deployment.superlink.reply_gate import ReplyGate

PROTOBUF = {"content-type": "application/protobuf"}


@contextlib.contextmanager
def running_app(folder):
    """The app, with its requests in one event loop; to make its database takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        made = SuperLinkApp(folder, patch)
    with made.client:
        yield made


class SuperLinkApp:
    """The app with its state, and what its own app and its members send to it."""

    def __init__(self, folder, monkeypatch):
        rejections = RejectionLog(interval=0.0)  # every test reads its own lines
        monkeypatch.setenv("FLWR_DATABASE", str(folder / "state.db"))
        middleware = (
            Middleware(AccessControl, rejections),
            Middleware(NodeAuthentication, rejections, lambda: self.names),
            Middleware(ReplyGate, rejections, lambda: self.names, folder),
        )
        monkeypatch.setattr(extensions, "get_middleware", lambda: middleware)
        self.app = create_app()
        self.address = ""

        async def from_address(scope, receive, send):
            scope["client"] = (self.address, 50000)
            await self.app(scope, receive, send)

        # Within `with`, all requests have one event loop, as in the real server.
        self.client = TestClient(from_address, base_url="https://fl.acme.org")
        self.state = self.app.state.linkstate_factory.state()
        self.keys = {name: ec.generate_private_key(ec.SECP384R1()) for name in ("a", "b")}
        self.nodes = {name: self._add_node(key) for name, key in self.keys.items()}
        self.names = {node: name for name, node in self.nodes.items()}
        self.run = None

    def begin(self):
        """Begin a run, and forget all that was before it."""
        if self.run:
            self.state.cleanup_run(self.run)
        self.app.middleware_stack = None  # made anew, as after a restart
        self.run = self.state.create_run(
            "app", "1", "hash", {}, NOOP_FEDERATION_ID, None, NOOP_FLWR_AID, TaskType.SERVER_APP
        )
        [run] = self.state.get_run_info(run_ids=[self.run])
        self.token = self.state.claim_task(run.primary_task_id)
        self.state.activate_task(run.primary_task_id)

    def _add_node(self, key):
        node = self.state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, public_key_to_bytes(key.public_key()), 0)
        self.state.activate_node(node, 1800)
        return node

    def post(self, path, request, headers, address="203.0.113.7"):
        self.address = address
        body = request if isinstance(request, bytes) else request.SerializeToString()
        return self.client.post(path, content=body, headers=PROTOBUF | headers)

    def send(self, name, content):
        """The server's app sends a message to a member; returns the message."""
        metadata = Metadata(self.run, "", SUPERLINK_NODE_ID, self.nodes[name], "", "", time.time(), 600.0, "train")
        message = make_message(metadata, content)
        message.metadata.__dict__["_message_id"] = message.object_id
        request = PushAppMessagesRequest(
            messages_list=[message_to_proto(remove_content_from_message(message))],
            message_object_trees=[get_object_tree(message)],
        )
        own = {"flwr-task-token": self.token}
        response = self.post("/v1/runtime/push-messages", request, own, "127.0.0.1")
        assert response.status_code == 200, response.text
        pushed = PushAppMessagesResponse.FromString(response.content)
        objects = get_all_nested_objects(message)
        for object_id in pushed.objects_to_push:
            request = PushObjectRequest(
                node=Node(node_id=SUPERLINK_NODE_ID),
                run_id=self.run,
                object_id=object_id,
                object_content=objects[object_id].deflate(),
                session_id=pushed.session_id,
            )
            response = self.post("/v1/runtime/push-object", request, own, "127.0.0.1")
            assert PushObjectResponse.FromString(response.content).stored
        return message

    def reply_to(self, message, content):
        """A reply to a message, with an ID."""
        reply = Message(content, reply_to=message)
        reply.metadata.__dict__["_message_id"] = reply.object_id
        return reply

    def announce(self, name, reply, tree=None, **changes):
        """A member announces a reply; returns the response."""
        request = PushMessagesRequest(
            node=Node(node_id=self.nodes[name]),
            messages_list=[message_to_proto(remove_content_from_message(reply))],
            message_object_trees=[tree or get_object_tree(reply)],
            clientapp_runtime_list=[1.0],
        )
        for field, value in changes.items():
            setattr(request.messages_list[0].metadata, field, value)
        return self.post("/v1/fleet/push-messages", request, signed(self.keys[name]))

    def push(self, name, session, object_id, content):
        """A member sends a part of a reply; returns the response."""
        request = PushObjectRequest(
            node=Node(node_id=self.nodes[name]),
            run_id=self.run,
            object_id=object_id,
            object_content=content,
            session_id=session,
        )
        return self.post("/v1/fleet/push-object", request, signed(self.keys[name]))

    def upload(self, name, reply):
        """A member announces a reply and sends its parts; returns the last response."""
        response = self.announce(name, reply)
        if response.status_code != 200:
            return response
        announced = PushMessagesResponse.FromString(response.content)
        objects = get_all_nested_objects(reply)
        for object_id in announced.objects_to_push:
            response = self.push(name, announced.session_id, object_id, objects[object_id].deflate())
            if response.status_code != 200:
                return response
            assert PushObjectResponse.FromString(response.content).stored
        return response

    def replies(self, message):
        """What the server's app gets as replies to a message."""
        return self.state.get_message_res({message.metadata.message_id}, self.run)

    def stored(self):
        """The bytes of all parts that Flower has stored."""
        return self.state.object_store.query("SELECT COALESCE(SUM(LENGTH(content)), 0) AS n FROM objects")[0]["n"]


def signed(key):
    """The headers by which a member signs a request."""
    moment = datetime.now(UTC).isoformat()
    return {
        "flwr-public-key": base64.b64encode(public_key_to_bytes(key.public_key())).decode(),
        "flwr-timestamp": moment,
        "flwr-signature": base64.b64encode(sign_message(key, moment.encode())).decode(),
    }


def content(**records):
    return RecordDict(records)
