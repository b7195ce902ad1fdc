"""Flower's SuperLink behind an access control.

`python -m coldfusion_fl.engines.deployment.superlink` takes the words of `flower-superlink`.
"""

import functools

import uvicorn
from starlette.middleware import Middleware

from coldfusion_fl.engines.deployment.superlink.access_control import AccessControl
from coldfusion_fl.engines.deployment.superlink.sender_check import SenderCheck
from coldfusion_fl.engines.deployment.superlink.tls_logging import log_failed_handshakes
from coldfusion_fl.engines.deployment.supervisor import exit_with_supervisor
from coldfusion_fl.engines.flower_internals import extensions, flower_superlink


def main() -> None:
    """Run the SuperLink with our access control as its outermost middleware."""
    exit_with_supervisor()
    others = extensions.get_middleware()
    # Flower has no public hook for middleware; this is the function by which it loads its own extensions.
    extensions.get_middleware = lambda: (Middleware(AccessControl), Middleware(SenderCheck), *others)
    # uvloop does not report failed handshakes, so asyncio is used. Proxy headers are ignored, because the access
    # control must see the real address of the client and not one that the client claims.
    uvicorn.run = functools.partial(uvicorn.run, loop="asyncio", proxy_headers=False)
    log_failed_handshakes()
    flower_superlink()


if __name__ == "__main__":
    main()
