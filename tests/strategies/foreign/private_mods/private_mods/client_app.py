"""private-mods: the client, with mods of Flower and one of its own."""

import time

from common.client_app import client_app
from flwr.app import Context, Message
from flwr.clientapp.mod import arrays_size_mod, message_size_mod


def timing_mod(msg: Message, context: Context, call_next):
    """Add the seconds that the client takes to its metrics."""
    started = time.monotonic()
    reply = call_next(msg, context)
    if reply.has_content():
        reply.content["metrics"]["seconds"] = time.monotonic() - started
    return reply


app = client_app(mods=[message_size_mod, arrays_size_mod, timing_mod])
