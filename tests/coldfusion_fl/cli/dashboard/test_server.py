"""The server of the dashboard."""

import json
import signal
import socket
import subprocess
import time

import httpx
import pytest
from commands import COLDFUSION
from scored_runs import make_scored_run
from starlette.testclient import TestClient

from coldfusion_fl.cli.dashboard.live import LiveRun
from coldfusion_fl.cli.dashboard.server import new_app, serve
from coldfusion_fl.errors import ErrorCode, RunFolderError, SettingsError
from coldfusion_fl.runs.status import run_status

PATHS = ["/", "/live.json", "/status.json", "/report.html"]


@pytest.fixture
def ledger(tmp_path):
    return make_scored_run(tmp_path / "<run>", rounds=4)


@pytest.fixture
def live(ledger):
    return LiveRun(ledger.folder, lambda: run_status(ledger).as_json())


@pytest.fixture
def client(live):
    return TestClient(new_app(live), base_url="http://127.0.0.1:8750")


def test_all_addresses_answer(client):
    assert [client.get(path).status_code for path in PATHS] == [200] * 4
    assert "&lt;run&gt;" in client.get("/").text
    assert client.get("/status.json").json() == client.get("/live.json").json()["status"]
    assert "report of a run" in client.get("/report.html").text


@pytest.mark.parametrize("path", ["/run.json", "/log.txt", "/rounds/000/base.safetensors", "/../run.json", "/docs"])
def test_the_files_of_the_run_folder_are_not_served(client, path):
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_can_be_changed(client, method):
    assert [client.request(method, path).status_code for path in PATHS] == [405] * 4


@pytest.mark.parametrize(
    ("host", "status"), [("127.0.0.1:8750", 200), ("localhost", 200), ("evil.example", 400), ("evil.example:8750", 400)]
)
def test_only_names_of_this_machine_are_answered(client, host, status):
    assert [client.get(path, headers={"Host": host}).status_code for path in PATHS] == [status] * 4


def test_no_other_site_may_read_or_frame_an_answer(client):
    for path in PATHS:
        headers = client.get(path, headers={"Origin": "http://evil.example"}).headers
        assert "access-control-allow-origin" not in headers
        assert headers["content-security-policy"] == "frame-ancestors 'none'"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


def test_a_damaged_folder_is_an_answer_with_the_reason(client, ledger):
    (ledger.folder / "rounds" / "001" / "record.json").write_text("{}")
    for path in ("/live.json", "/report.html"):
        answer = client.get(path)
        assert answer.status_code == 503
        assert "record.json" in answer.json()["error"]


def test_a_taken_port_is_an_error_that_names_it(live):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=f"--port {port}") as error:
            serve(live, port, open_browser=False, log=print)
    assert error.value.code == ErrorCode.PORT_IN_USE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_the_command_serves_until_it_is_stopped(ledger, number):
    command = [*COLDFUSION, "dashboard", str(ledger.folder), "--no-browser", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            address = process.stdout.readline().split()[-1]
            assert address.startswith("http://127.0.0.1:")
            status = _get(f"{address}status.json")
            assert json.loads(status)["rounds"] == 4
        finally:
            process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in said


def _get(address):
    for _ in range(100):
        try:
            return httpx.get(address, timeout=30).text
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError("the dashboard does not answer")


def test_a_folder_without_a_run_is_an_error(tmp_path):
    with pytest.raises(RunFolderError):
        LiveRun(tmp_path, dict)
