"""Members answer in their own names alone.

Flower 1.42 checks that a request is signed by the node that it says it is of. It does not check that the replies in it
are that node's: who knew the id of another member's message could answer it in that one's place.
"""

import logging

from flwr.common import log
from flwr.proto.fleet_pb2 import PushMessagesRequest
from google.protobuf.message import DecodeError
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from coldfusion_fl.engines.deployment.superlink.access_control import REPLIES, caller

# Flower's nodes send one; to look at each of a million would stop the server for that long.
_MOST = 100


class SenderCheck:
    """ASGI middleware: rejects replies whose sender is not the node that the request is of.

    Args:
        app: what stands behind it, and checks the signature.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer that it may not."""
        if scope["type"] != "http" or scope["path"] != REPLIES:
            await self._app(scope, receive, send)
            return
        body = await Request(scope, receive).body()
        if wrong := _problem(body):
            log(logging.WARNING, "%s sent %s: rejected", caller(scope), wrong)
            await JSONResponse({"detail": f"rejected: {wrong}"}, status_code=403)(scope, receive, send)
            return

        async def again() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, again, send)


def _problem(body: bytes) -> str:
    """What is wrong with a request that brings replies; empty: nothing."""
    try:
        request = PushMessagesRequest.FromString(body)
    except DecodeError:
        return "replies that cannot be read"
    node, replies = request.node.node_id, request.messages_list
    if len(replies) > _MOST:
        return f"{len(replies)} replies at once"
    others = {reply.metadata.src_node_id for reply in replies} - {node}
    return f"a reply of node {min(others)} as node {node}" if others else ""
