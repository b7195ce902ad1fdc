"""Changes the software of a process that starts with this folder on its PYTHONPATH, as COLDFUSION_HOOK says.

`spoil`: a member that sends what it likes in its second and third round. `old`: one with another version.
`record=FILE`: a server that keeps every byte that members send.
"""

import importlib.util
import os
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path


class _WhenLoaded(MetaPathFinder):
    """Calls a function with a module as soon as it is loaded."""

    def __init__(self, name, change):
        self._name, self._change = name, change

    def find_spec(self, name, path, target=None):
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            self._change(module)

        spec.loader.exec_module = exec_module
        return spec


GARBAGE = b"these bytes are no array"
HUGE = 3_000_000  # float32; Flower sends pieces of 5 MiB
OVER_BUDGET = 15_000_000


def spoil(client_app):
    """Its contribution is garbage and huge, then more than the server accepts, then one that Flower cannot read."""
    import numpy as np
    from flwr.app import Array, ArrayRecord
    from flwr.supercore.inflatable.inflatable_object import add_header_to_object_body

    def spoiling(message, context, call_next):
        reply = call_next(message, context)
        number = int(reply.content["metrics"]["coldfusion.round"])
        if number == 4:  # this process handles one message
            Array.deflate = lambda array: add_header_to_object_body(GARBAGE, array)
        if number in (2, 3):
            arrays = reply.content["arrays"]
            # Flower sends equal pieces once.
            huge = Array(np.random.default_rng(0).random(HUGE if number == 2 else OVER_BUDGET, np.float32))
            garbage = Array("float32", (32,), "numpy.ndarray", GARBAGE)
            reply.content["arrays"] = ArrayRecord(dict.fromkeys(arrays, garbage) | {min(arrays): huge})
        return reply

    client_app.app = client_app.contributor_app(train_mods=[spoiling])


def old(versions):
    """It has an older version of this software."""
    plain = versions.own_versions
    versions.own_versions = lambda: {**plain(), "coldfusion-fl": "0.0.1"}


def record(module, file):
    """Keep what members send: each request's path, headers and body."""
    plain = module.AccessControl.__call__

    async def call(self, scope, receive, send):
        async def recorded():
            message = await receive()
            if scope["type"] == "http" and scope["path"].startswith("/v1/fleet/"):
                about = repr((scope["path"], scope["query_string"], scope["headers"])).encode()
                with Path(file).open("ab") as kept:
                    kept.write(about + b"\n" + message.get("body", b"") + b"\n")
            return message

        await plain(self, scope, recorded, send)

    module.AccessControl.__call__ = call


what, _, value = os.environ.get("COLDFUSION_HOOK", "").partition("=")
if what == "spoil":
    sys.meta_path.insert(0, _WhenLoaded("coldfusion_fl.clients.client_app", spoil))
elif what == "old":
    sys.meta_path.insert(0, _WhenLoaded("coldfusion_fl.versions", old))
elif what == "record":
    access_control = "coldfusion_fl.engines.deployment.superlink.access_control"
    sys.meta_path.insert(0, _WhenLoaded(access_control, lambda module: record(module, value)))
