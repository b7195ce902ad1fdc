"""Changes the software of a process that starts with this folder on its PYTHONPATH, as COLDFUSION_HOOK says.

`spoil`: a member that sends what it likes. `old`: one with another version. `record=FILE`: a server that keeps every
byte that members send.
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
HUGE = 40_000_000  # float32


def spoil(client_app):
    """In each round something else is wrong with the contribution."""
    import numpy as np
    from flwr.app import Array

    def spoiling(message, context, call_next):
        reply = call_next(message, context)
        arrays, name = reply.content["arrays"], "encoder.layer.0.output.dense.bias"
        name = next(known for known in arrays if known.endswith(name))
        number = int(reply.content["metrics"]["server-round"])
        good = arrays[name].numpy()
        if number == 1:
            arrays[name] = Array(np.full_like(good, np.nan))
        elif number == 2:
            arrays[name] = Array(np.zeros((3, 5), good.dtype))
        elif number == 3:
            # Flower sends equal pieces once.
            arrays[name] = Array(np.random.default_rng(0).random(HUGE, good.dtype))
        elif number == 4:
            arrays[name] = Array(str(good.dtype), good.shape, "numpy.ndarray", GARBAGE)
        elif number == 5:
            reply.content["metrics"]["server-round"] = 1
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
