"""Connections that wait, and those that are too many: with a real web server on loopback."""

import contextlib
import resource
import socket
import threading
import time

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from coldfusion_fl.engines.deployment.superlink import connection_limits
from coldfusion_fl.engines.deployment.superlink.access_control import AccessControl
from coldfusion_fl.engines.deployment.superlink.connection_limits import (
    ConnectionLimits,
    address_group,
    listeners,
    max_connections,
)
from coldfusion_fl.engines.deployment.superlink.rejection_log import RejectionLog

FLEET, ADMISSION = "/v1/fleet/pull-messages", "/v1/fleet/activate-node"


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Served:
    """A server with limits, and its port. What comes from 127.0.0.2 counts as coming from another machine."""

    def __init__(self, **options):
        self.release = threading.Event()
        rejections = RejectionLog()
        self.limits = ConnectionLimits(rejections, **options)
        app = Starlette(
            routes=[Route(path, self.answer, methods=["POST"]) for path in (FLEET, ADMISSION)],
            middleware=[Middleware(AccessControl, rejections, self.limits)],
        )
        [listener] = listeners("127.0.0.1", 0, self.limits)
        self.port = listener.getsockname()[1]
        self.server = uvicorn.Server(uvicorn.Config(app, loop="asyncio", http="h11", log_level="warning"))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]})
        self.sockets = []

    def __enter__(self):
        self.thread.start()
        wait_for(lambda: self.server.started)
        return self

    def __exit__(self, *_):
        for opened in self.sockets:
            opened.close()
        self.release.set()
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()

    async def answer(self, request):
        await request.body()
        if request.headers.get("wait"):
            await run_in_threadpool(self.release.wait, 30)
        return PlainTextResponse("served")

    def connect(self, source="127.0.0.2"):
        opened = socket.create_connection(("127.0.0.1", self.port), 10, source_address=(source, 0))
        self.sockets.append(opened)
        return opened

    def ask(self, source="127.0.0.2"):
        transport = httpx.HTTPTransport(local_address=source)
        with httpx.Client(transport=transport) as client:
            return client.post(f"http://127.0.0.1:{self.port}{FLEET}", content=b"x").text


@pytest.fixture(autouse=True)
def only_one_address_is_this_machine(monkeypatch):
    monkeypatch.setattr(connection_limits, "_is_local", lambda _, host: host == "127.0.0.1")


def is_closed(opened):
    opened.settimeout(0.05)
    with contextlib.suppress(TimeoutError):
        try:
            return opened.recv(1) == b""
        except ConnectionError:
            return True
    return False


def test_idle_connections_do_not_lock_anyone_out(caplog):
    with Served(total=8) as server:
        idle = [server.connect() for _ in range(30)]
        assert server.ask() == "served"  # from the same address
        assert server.ask("127.0.0.3") == "served"
        assert server.ask("127.0.0.1") == "served"
        assert len(server.limits) <= 8
        wait_for(lambda: sum(map(is_closed, idle)) >= 28)
    assert "Too many connections: 2 are open, one more from 127.0.0.2" in caplog.text


def test_connections_from_many_addresses_share_a_total():
    with Served(total=8) as server:
        for number in range(2, 12):
            server.connect(f"127.0.0.{number}")
            server.connect(f"127.0.0.{number}")
        wait_for(lambda: len(server.limits) == 8)
        assert server.ask("127.0.0.99") == "served"
        assert server.ask("127.0.0.1") == "served"


def test_a_connection_without_a_request_is_closed(caplog):
    with Served(first_request=0.3) as server:
        idle, slow = server.connect(), server.connect()
        slow.sendall(b"POST /v1/fl")
        wait_for(lambda: is_closed(idle) and is_closed(slow))
        wait_for(lambda: len(server.limits) == 0)
    assert "Closed a connection from 127.0.0.2: no request within 0 s." in caplog.text


@pytest.mark.parametrize("path", [FLEET, ADMISSION])
def test_a_request_that_is_being_answered_is_not_closed(path):
    with Served(total=8, first_request=0.3) as server:
        busy = server.connect()
        busy.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\nwait: 1\r\ncontent-length: 1\r\n\r\nx".encode())
        wait_for(lambda: any(not connection.waits for connection in server.limits._connections.values()))
        for _ in range(10):
            server.connect()
        time.sleep(0.5)
        server.release.set()
        busy.settimeout(30)
        assert b"200 OK" in busy.recv(1000)


HALF = f"POST {ADMISSION} HTTP/1.1\r\nhost: x\r\ncontent-length: 4000\r\n\r\nx".encode()


def test_unfinished_requests_to_be_admitted_do_not_lock_anyone_out():
    """They come from strangers."""
    with Served(total=8) as server:
        for number in range(2, 6):
            for _ in range(2):
                server.connect(f"127.0.0.{number}").sendall(HALF)
        wait_for(lambda: len(server.limits) == 8)
        time.sleep(0.3)
        assert server.ask("127.0.0.99") == "served"


def test_an_unfinished_request_to_be_admitted_keeps_the_deadline_of_its_connection():
    with Served(first_request=0.3) as server:
        half = server.connect()
        half.sendall(HALF)
        wait_for(lambda: is_closed(half))


def test_a_connection_that_was_of_use_is_closed_last():
    with Served(total=8) as server:
        member = server.connect()
        member.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
        assert b"200 OK" in member.recv(1000)
        idle = [server.connect() for _ in range(5)]
        wait_for(lambda: sum(map(is_closed, idle)) == 4)
        assert not is_closed(member)


def test_a_trusted_proxy_may_have_all_connections():
    with Served(total=8, proxies=["127.0.0.2"]) as server:
        for _ in range(8):
            server.connect()
        wait_for(lambda: len(server.limits) == 8)


def test_large_headers_are_rejected():
    with Served() as server:
        stranger = server.connect()
        with contextlib.suppress(ConnectionError):
            stranger.sendall(b"POST / HTTP/1.1\r\nx: " + b"y" * 2**20)
        wait_for(lambda: is_closed(stranger) or len(server.limits) == 0)


def test_the_total_leaves_file_descriptors_for_the_server(monkeypatch):
    for descriptors, most in ((256, 32), (512, 120), (1024, 512), (1_000_000, 512)):
        monkeypatch.setattr(resource, "getrlimit", lambda _, found=descriptors: (found, found))
        assert max_connections() == most


def test_an_ipv6_network_counts_as_one_address():
    assert address_group("2001:db8:1:2::7") == address_group("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert address_group("203.0.113.7") == "203.0.113.7"
