"""Who may ask the server for what."""

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from coldfusion_fl.engines.deployment.superlink.access_control import REPLIES, AccessControl
from coldfusion_fl.versions import VERSIONS_HEADER, format_versions

FLEET, CONTROL, RUNTIME = "/v1/fleet/pull-messages", "/v1/control/start-run", "/v1/runtime/push-messages"


def browser(client, server="fl.acme.org"):
    def answer(request):
        return PlainTextResponse("served")

    paths = [Route(route, answer, methods=["GET", "POST"]) for route in (FLEET, REPLIES, CONTROL, RUNTIME, "/docs")]
    app = Starlette(routes=paths, middleware=[Middleware(AccessControl)])
    return TestClient(app, base_url=f"https://{server}", client=(client, 50000))


def ask(path, client, server="fl.acme.org"):
    return browser(client, server).get(path)


@pytest.mark.parametrize("client", ["127.0.0.1", "::1", "203.0.113.7", "2001:db8::7"])
def test_all_machines_reach_the_fleet_interface_and_get_the_versions(client):
    answer = ask(FLEET, client)
    assert (answer.status_code, answer.text) == (200, "served")
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
    assert ask(path, client, server).text == "served"


def test_a_large_request_is_rejected_unread(caplog):
    said = {"content-length": str(64 * 2**20 + 1)}
    assert browser("203.0.113.7").post(FLEET, content=b"x", headers=said).status_code == 413
    assert "Rejected a request from 203.0.113.7: it is larger than 64 MiB" in caplog.text
    assert browser("203.0.113.7").post(FLEET, content=b"x", headers={"transfer-encoding": "chunked"}).status_code == 413
    assert browser("203.0.113.7").post(FLEET, content=b"x" * 2**20).text == "served"


def test_a_large_reply_is_rejected(caplog):
    said = {"content-length": str(2**20 + 1)}
    assert browser("203.0.113.7").post(REPLIES, content=b"x", headers=said).status_code == 413
    assert browser("203.0.113.7").post(FLEET, content=b"x", headers=said).status_code == 200
    assert "Rejected a request from 203.0.113.7: it is larger than 1 MiB" in caplog.text


def test_a_rejected_client_cannot_forge_log_lines(caplog):
    ask("/x%0A2026-11-27%20mallory%20is%20let%20in%1B%5B2K" + "y" * 1000, "203.0.113.7")
    (record,) = [record for record in caplog.records if "Rejected" in record.getMessage()]
    assert record.getMessage().isprintable()
    assert len(record.getMessage()) < 300
