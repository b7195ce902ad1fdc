"""Logs rejections without letting their number fill the log: one line a minute for each address and kind."""

import asyncio
import logging
from http import HTTPStatus

from flwr.common import log

_INTERVAL = 60.0
# A stranger with many addresses must not fill the memory either: addresses beyond this many are counted together.
_MAX_SOURCES = 1000
_OTHERS = "other addresses"


class RejectionLog:
    """Logs the first rejection of each address and kind, and a minute later how many more there were.

    All methods are called in the event loop of the server.

    Args:
        interval: seconds between two lines about the same address and kind.
    """

    def __init__(self, interval: float = _INTERVAL) -> None:
        self._interval = interval
        self._more: dict[tuple[str, str], int] = {}

    def warn(self, source: str, kind: str, text: str) -> None:
        """Log a rejection, or count it.

        Args:
            source: the address, or the member, that is rejected.
            kind: what is counted together.
            text: the line.
        """
        if self.is_first(source, kind):
            log(logging.WARNING, "%s", text)

    def is_first(self, source: str, kind: str) -> bool:
        """Whether a rejection is the first of its address and kind in this interval; if not, it is counted."""
        key = (source, kind)
        if key not in self._more and len(self._more) >= _MAX_SOURCES:
            key = (_OTHERS, kind)
        if key in self._more:
            self._more[key] += 1
            return False
        self._more[key] = 0
        asyncio.get_running_loop().call_later(self._interval, self._report, key)
        return True

    def _report(self, key: tuple[str, str]) -> None:
        if more := self._more.pop(key):
            log(logging.WARNING, "%s: %d more in the last %.0f s (%s)", key[0], more, self._interval, key[1])


class RejectionFilter(logging.Filter):
    """Limits what the web server itself logs of rejected and invalid requests, in the same way.

    Args:
        rejections: counts them.
    """

    def __init__(self, rejections: RejectionLog) -> None:
        super().__init__()
        self._rejections = rejections

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is logged."""
        if record.name != "uvicorn.access":
            return record.levelno != logging.WARNING or self._rejections.is_first("requests", record.getMessage())
        if not isinstance(record.args, tuple) or len(record.args) < 5:
            return True
        address, status = record.args[0], record.args[4]
        if not isinstance(status, int) or status < HTTPStatus.BAD_REQUEST:
            return True
        return self._rejections.is_first(str(address).rpartition(":")[0], f"HTTP {status}")
