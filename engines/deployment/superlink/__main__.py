"""Flower's SuperLink behind a gate.

`python -m coldfusion_fl.engines.deployment.superlink` takes the words of `flower-superlink`.
"""

import functools

import uvicorn
from flwr.superlink import extensions
from flwr.superlink.cli.flower_superlink import flower_superlink
from starlette.middleware import Middleware

from coldfusion_fl.engines.deployment.superlink.access_control import AccessControl
from coldfusion_fl.engines.deployment.superlink.sender_check import SenderCheck
from coldfusion_fl.engines.deployment.superlink.tls_logging import log_failed_handshakes


def main() -> None:
    """Run the SuperLink with the gate as its outermost middleware."""
    others = extensions.get_middleware()
    # Flower's own hook for what stands around its server; it has no other way in.
    extensions.get_middleware = lambda: (Middleware(AccessControl), Middleware(SenderCheck), *others)
    # Of uvloop's connections nothing can be learnt before their handshake is done; and the gate must see who calls, not
    # who a header says is calling.
    uvicorn.run = functools.partial(uvicorn.run, loop="asyncio", proxy_headers=False)
    log_failed_handshakes()
    flower_superlink()


if __name__ == "__main__":
    main()
