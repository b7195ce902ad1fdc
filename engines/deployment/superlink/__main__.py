"""Flower's SuperLink for the members of a federation only.

`python -m coldfusion_fl.engines.deployment.superlink FOLDER` takes the federation's folder, and then the words of
`flower-superlink`.
"""

import functools
import sys
from pathlib import Path

import uvicorn
from starlette.middleware import Middleware

from coldfusion_fl.engines.deployment.federation import open_federation, read_member_names
from coldfusion_fl.engines.deployment.superlink.access_control import AccessControl
from coldfusion_fl.engines.deployment.superlink.connection_limits import ConnectionLimits, raise_descriptor_limit
from coldfusion_fl.engines.deployment.superlink.database import prepare
from coldfusion_fl.engines.deployment.superlink.node_auth import NodeAuthentication
from coldfusion_fl.engines.deployment.superlink.rejection_log import RejectionLog
from coldfusion_fl.engines.deployment.superlink.reply_gate import ReplyGate
from coldfusion_fl.engines.deployment.superlink.tls_logging import log_failed_handshakes
from coldfusion_fl.engines.deployment.superlink.web_server import run_server
from coldfusion_fl.engines.deployment.supervisor import exit_with_supervisor
from coldfusion_fl.engines.flower_internals import extensions, flower_superlink


def main() -> None:
    """Run the SuperLink with our middleware as its outermost, and with our limits of connections."""
    exit_with_supervisor()
    federation = open_federation(Path(sys.argv.pop(1)))
    raise_descriptor_limit()
    rejections = RejectionLog()
    limits = ConnectionLimits(rejections, federation.trusted_proxies)
    names = functools.partial(read_member_names, federation.members_file)
    others = extensions.get_middleware()
    # Flower has no public hook for middleware; this is the function by which it loads its own extensions.
    extensions.get_middleware = lambda: (
        Middleware(AccessControl, rejections, limits, federation.trusted_proxies),
        Middleware(NodeAuthentication, rejections, names),
        Middleware(ReplyGate, rejections, names, federation.flower_home),
        *others,
    )
    uvicorn.run = functools.partial(run_server, limits=limits, rejections=rejections, database=federation.database)
    log_failed_handshakes(rejections)
    prepare(federation.database)
    flower_superlink()


if __name__ == "__main__":
    main()
