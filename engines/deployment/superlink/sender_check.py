"""Members can only reply for themselves.

Flower 1.42 checks that a request is signed by the node that it names as its sender. It does not check that the replies
in the request are from the same node: a member that knows the ID of a message to another member could reply to it.
"""

import logging

from flwr.common import log
from google.protobuf.message import DecodeError
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coldfusion_fl.engines.deployment.superlink.access_control import REPLIES, caller
from coldfusion_fl.engines.flower_internals import fleet_pb2

# Flower's nodes send one reply in a request. Checking a million would block the server.
_MAX_REPLIES = 100


class SenderCheck:
    """ASGI middleware: rejects replies whose sender is not the sender of the request.

    Args:
        app: the next ASGI application, which checks the signature.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or respond with an error."""
        if scope["type"] != "http" or scope["path"] != REPLIES:
            await self._app(scope, receive, send)
            return
        body = await Request(scope, receive).body()
        if problem := _find_problem(body):
            log(logging.WARNING, "Rejected a request from %s: it contains %s.", caller(scope), problem)
            await JSONResponse({"detail": f"rejected: {problem}"}, status_code=403)(scope, receive, send)
            return

        async def receive_again() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, receive_again, send)


def _find_problem(body: bytes) -> str:
    """The problem of a request with replies; empty: there is none."""
    try:
        request = fleet_pb2.PushMessagesRequest.FromString(body)
    except DecodeError:
        return "replies that cannot be read"
    node, replies = request.node.node_id, request.messages_list
    if len(replies) > _MAX_REPLIES:
        return f"{len(replies)} replies at once"
    others = {reply.metadata.src_node_id for reply in replies} - {node}
    return f"a reply that names node {min(others)} as its sender, but node {node} signed the request" if others else ""
