"""Logs failed TLS handshakes: clients without TLS, or that do not trust the server. asyncio does not log them."""

from asyncio.sslproto import SSLProtocol
from typing import Any

from coldfusion_fl.engines.deployment.superlink.rejection_log import RejectionLog


def log_failed_handshakes(rejections: RejectionLog) -> None:
    """Log failed TLS handshakes with the address of the client, in all asyncio event loops of this process.

    Args:
        rejections: limits their number.
    """
    plain = SSLProtocol._fatal_error

    def fatal_error(protocol: Any, wrong: BaseException, message: str = "") -> None:
        transport = protocol._transport
        if "handshake" in f"{message} {wrong}" and transport:  # of a timeout, only the error mentions the handshake
            peer = transport.get_extra_info("peername")
            address = peer[0] if peer else "an unknown address"
            kind = f"TLS handshake: {getattr(wrong, 'reason', None) or type(wrong).__name__}"
            rejections.warn(address, kind, f"TLS handshake with {address} failed: {wrong}")
        plain(protocol, wrong, message)

    SSLProtocol._fatal_error = fatal_error  # type: ignore[method-assign, assignment]
