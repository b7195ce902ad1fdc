"""Who may ask the server for what."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from coldfusion_fl.engines.deployment.superlink.access_control import AccessControl, has_proxy_headers
from coldfusion_fl.versions import VERSIONS_HEADER, format_versions

FLEET, CONTROL, RUNTIME = "/v1/fleet/pull-messages", "/v1/control/start-run", "/v1/runtime/push-messages"


def browser(client, server="fl.acme.org", proxies=()):
    def answer(request):
        return PlainTextResponse(f"served {request.client.host}")

    paths = [Route(route, answer, methods=["GET", "POST"]) for route in (FLEET, CONTROL, RUNTIME, "/docs")]
    app = Starlette(routes=paths, middleware=[Middleware(AccessControl, proxies=proxies)])
    return TestClient(app, base_url=f"https://{server}", client=(client, 50000))


def ask(path, client, server="fl.acme.org"):
    return browser(client, server).get(path)


@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "203.0.113.7", "2001:db8::7"])
def test_all_machines_reach_the_fleet_interface_and_get_the_versions(client):
    answer = ask(FLEET, client)
    assert (answer.status_code, answer.text) == (200, f"served {client}")
    assert answer.headers[VERSIONS_HEADER] == format_versions()


@pytest.mark.parametrize("path", [CONTROL, RUNTIME, "/docs", "/v1/fleet/../control/start-run", "/v1/fleetx"])
@pytest.mark.parametrize("client", ["203.0.113.7", "2001:db8::7", "testclient"])
def test_other_machines_reach_no_other_interface(path, client):
    answer = ask(path, client)
    assert answer.status_code == 404
    assert "served" not in answer.text


def test_a_rejection_is_logged_with_the_address(caplog):
    ask(CONTROL, "203.0.113.7")
    assert "Rejected a request from 203.0.113.7 for /v1/control/start-run" in caplog.text


@pytest.mark.parametrize("path", [CONTROL, RUNTIME, "/docs"])
@pytest.mark.parametrize(
    ("client", "server"), [("127.0.0.1", "x"), ("127.9.9.9", "x"), ("::1", "x"), ("10.1.2.3", "10.1.2.3")]
)
def test_this_machine_reaches_all_interfaces(path, client, server):
    assert ask(path, client, server).text == f"served {client}"


def test_a_large_request_of_this_machine_is_rejected_unread(caplog):
    said = {"content-length": str(64 * 2**20 + 1)}
    assert browser("127.0.0.1").post(CONTROL, content=b"x", headers=said).status_code == 413
    assert "Rejected a request from 127.0.0.1: it is larger than 64 MiB" in caplog.text
    assert browser("127.0.0.1").post(CONTROL, content=b"x", headers={"transfer-encoding": "chunked"}).status_code == 413
    assert browser("127.0.0.1").post(CONTROL, content=b"x" * 2**20).status_code == 200


FORWARDED = [
    {"x-forwarded-for": "127.0.0.1"},
    {"X-Forwarded-Host": "fl.acme.org"},
    {"Forwarded": "for=127.0.0.1"},
    {"via": "1.1 proxy"},
    {"x-real-ip": "127.0.0.1"},
]


@pytest.mark.parametrize("headers", FORWARDED)
@pytest.mark.parametrize("path", [FLEET, CONTROL, RUNTIME])
@pytest.mark.parametrize("proxy", ["127.0.0.1", "203.0.113.7"])
def test_what_comes_through_an_unknown_proxy_is_rejected(path, headers, proxy, caplog):
    """A proxy on the server's machine would make every stranger local."""
    answer = browser(proxy).post(path, headers=headers)
    assert answer.status_code == 403
    assert "name its address as trusted-proxies in federation.toml" in caplog.text


@pytest.mark.parametrize("headers", FORWARDED)
@pytest.mark.parametrize("path", [CONTROL, RUNTIME, "/docs"])
@pytest.mark.parametrize("proxy", ["127.0.0.1", "192.0.2.10"])
def test_what_comes_through_a_trusted_proxy_is_never_local(path, headers, proxy):
    assert browser(proxy, proxies=["192.0.2.10", "127.0.0.1"]).post(path, headers=headers).status_code == 404


@pytest.mark.parametrize(
    ("listed", "client"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("127.0.0.1, 203.0.113.7", "203.0.113.7"),  # what the client itself wrote comes first
        ("203.0.113.7, 192.0.2.11", "203.0.113.7"),  # a second proxy
        ("2001:db8::7", "2001:db8::7"),
        ("forged\nline", "192.0.2.10"),
        ("", "192.0.2.10"),
        ("192.0.2.11", "192.0.2.10"),
    ],
)
def test_a_trusted_proxy_names_the_members_address(listed, client):
    behind = browser("192.0.2.10", proxies=["192.0.2.10", "192.0.2.11"])
    assert behind.post(FLEET, headers={"x-forwarded-for": listed.replace("\n", "%0A")}).text == f"served {client}"


def test_this_machines_own_requests_pass_beside_a_trusted_proxy():
    assert browser("127.0.0.1", proxies=["127.0.0.1"]).get(CONTROL).status_code == 200


def test_http_1_0_counts_as_forwarded():
    """nginx speaks it unless it is told otherwise, and adds no header."""
    scope = {"type": "http", "http_version": "1.0", "headers": []}
    assert has_proxy_headers(scope)
    assert not has_proxy_headers(scope | {"http_version": "1.1"})


def test_a_rejected_client_cannot_forge_log_lines(caplog):
    ask("/x%0A2026-11-27%20mallory%20is%20let%20in%1B%5B2K" + "y" * 1000, "203.0.113.7")
    (record,) = [record for record in caplog.records if "Rejected" in record.getMessage()]
    assert record.getMessage().isprintable()
    assert len(record.getMessage()) < 300
