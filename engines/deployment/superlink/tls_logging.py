"""Logs failed TLS handshakes: clients without TLS, or that do not trust the server. asyncio does not log them."""

import logging
from asyncio.sslproto import SSLProtocol
from typing import Any

from flwr.common import log


def log_failed_handshakes() -> None:
    """Log each failed TLS handshake with the address of the client, in all asyncio event loops of this process."""
    plain = SSLProtocol._fatal_error

    def fatal_error(protocol: Any, wrong: BaseException, message: str = "") -> None:
        transport = protocol._transport
        if "handshake" in f"{message} {wrong}" and transport:  # of a timeout, only the error mentions the handshake
            peer = transport.get_extra_info("peername")
            log(logging.WARNING, "TLS handshake with %s failed: %s", peer[0] if peer else "an unknown address", wrong)
        plain(protocol, wrong, message)

    SSLProtocol._fatal_error = fatal_error  # type: ignore[method-assign, assignment]
