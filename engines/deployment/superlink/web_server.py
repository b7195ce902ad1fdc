"""The web server that Flower's app runs in: uvicorn, with our limits of connections."""

import logging
import sys
from pathlib import Path
from typing import Any

import h11
import uvicorn
from flwr.common import log
from uvicorn.protocols.http.h11_impl import H11Protocol

from coldfusion_fl.engines.deployment.superlink.connection_limits import BACKLOG, ConnectionLimits, listeners
from coldfusion_fl.engines.deployment.superlink.database import keep_small
from coldfusion_fl.engines.deployment.superlink.rejection_log import RejectionFilter, RejectionLog
from coldfusion_fl.errors import first_line

# As uvicorn.run.
_STARTUP_FAILURE = 3


class Protocol(H11Protocol):
    """uvicorn's HTTP, without a traceback in the log for a request that is invalid after a response, such as HTTP/2."""

    def send_400_response(self, msg: str) -> None:
        """Respond that a request is invalid; if that is no longer possible, close the connection."""
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.close()


def run_server(
    app: Any,
    *,
    host: str,
    port: int,
    limits: ConnectionLimits,
    rejections: RejectionLog,
    database: Path,
    **options: Any,
) -> None:
    """Run Flower's app until the process is stopped, in place of `uvicorn.run`.

    Args:
        app: Flower's app.
        host: the host to listen on.
        port: the port.
        limits: of the connections.
        rejections: what it logs of rejected requests is limited by this.
        database: Flower's database, which is looked after meanwhile.
        options: other options of uvicorn.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        # uvloop does not report failed handshakes.
        loop="asyncio",
        # httptools, the other parser, has no limit for the size of headers.
        http=Protocol,
        ws="none",
        # The access control must see the address of the connection and not one that a header names.
        proxy_headers=False,
        backlog=BACKLOG,
        **options,
    )
    for name in ("uvicorn.access", "uvicorn.error"):
        logging.getLogger(name).addFilter(RejectionFilter(rejections))
    try:
        sockets = listeners(host, port, limits)
    except OSError as error:
        log(logging.ERROR, "The server cannot listen on port %d of %s: %s", port, host, first_line(error))
        sys.exit(_STARTUP_FAILURE)
    log(
        logging.INFO,
        "Listening on port %d of %s, for up to %d connections from other machines, %d of one address",
        port,
        host,
        limits.total,
        limits.per_address,
    )
    keep_small(database, app.state.linkstate_factory.state())
    server = uvicorn.Server(config)
    server.run(sockets=list(sockets))
    if not server.started:
        sys.exit(_STARTUP_FAILURE)
