"""How many lines rejections write."""

import asyncio
import logging

from coldfusion_fl.engines.deployment.superlink import rejection_log
from coldfusion_fl.engines.deployment.superlink.rejection_log import RejectionFilter, RejectionLog


def lines(caplog):
    return [record.getMessage() for record in caplog.records if record.name == "flwr"]


def test_one_line_for_each_address_and_kind_and_then_their_number(caplog):
    async def reject():
        rejections = RejectionLog(interval=0.05)
        for _ in range(100):
            rejections.warn("203.0.113.7", "path", "no such path")
        rejections.warn("203.0.113.7", "size", "too large")
        rejections.warn("203.0.113.8", "path", "no such path")
        await asyncio.sleep(0.2)
        rejections.warn("203.0.113.7", "path", "again")

    asyncio.run(reject())
    assert lines(caplog) == [
        "no such path",
        "too large",
        "no such path",
        "203.0.113.7: 99 more in the last 0 s (path)",
        "again",
    ]


def test_many_addresses_are_counted_together(caplog, monkeypatch):
    monkeypatch.setattr(rejection_log, "_MAX_SOURCES", 10)

    async def reject():
        rejections = RejectionLog()
        for number in range(1000):
            rejections.warn(f"address {number}", "path", "no")

    asyncio.run(reject())
    assert len(lines(caplog)) == 11


def access(status, address="203.0.113.7:50000"):
    arguments = (address, "GET", "/x", "1.1", status)
    return logging.LogRecord("uvicorn.access", logging.INFO, "", 0, '%s - "%s %s HTTP/%s" %d', arguments, None)


def test_the_web_servers_own_lines_are_limited_too():
    async def logged():
        limited = RejectionFilter(RejectionLog())
        invalid = logging.LogRecord("uvicorn.error", logging.WARNING, "", 0, "Invalid HTTP request.", (), None)
        records = [access(200), access(200), access(404), access(404), access(404, "203.0.113.8:1"), invalid, invalid]
        return [limited.filter(record) for record in records]

    assert asyncio.run(logged()) == [True, True, True, False, True, True, False]
