"""Who tried to reach the server without TLS, or without trust in it: asyncio says nothing of either."""

import logging
from asyncio.sslproto import SSLProtocol
from typing import Any

from flwr.common import log


def log_failed_handshakes() -> None:
    """Log each TLS handshake that fails, with the address of the other side, in all of asyncio's event loops here."""
    plain = SSLProtocol._fatal_error

    def fatal_error(protocol: Any, wrong: BaseException, message: str = "") -> None:
        transport = protocol._transport
        if "handshake" in f"{message} {wrong}" and transport:  # where it takes too long, the error alone says so
            peer = transport.get_extra_info("peername")
            log(logging.WARNING, "%s got no TLS connection: %s", peer[0] if peer else "somebody", wrong)
        plain(protocol, wrong, message)

    SSLProtocol._fatal_error = fatal_error  # type: ignore[method-assign, assignment]
