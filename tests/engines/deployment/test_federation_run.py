"""Supervising a run in a federation, with a fake of the server's Control interface."""

import contextlib
import time

import pytest
from flwr.app import Metadata
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError
from flwr.superlink.grid import http_grid

from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.engines.deployment import federation_run
from coldfusion_fl.engines.deployment.app_bundle import build_app_bundle
from coldfusion_fl.engines.deployment.control import RequestRejectedError, ServerRunState
from coldfusion_fl.engines.deployment.federation import Federation
from coldfusion_fl.engines.deployment.member.join import free_port
from coldfusion_fl.engines.deployment.server_app import limit_array_wait
from coldfusion_fl.engines.deployment.setup import new_federation
from coldfusion_fl.errors import DeploymentError, ErrorCode, RunError, SettingsError
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.strategies.nodes.replies import pull_replies


class FakeServer:
    """A Control interface: each run that is started ends as the next of `fates` tells."""

    def __init__(self, *fates):
        self.fates = list(fates)
        self.series = []
        self.stopped = []
        self.away = 0

    def start(self, app, series):
        self.series.append(series)
        return len(self.series), 77

    def stop(self, run_id):
        self.stopped.append(run_id)

    def run(self, run_id):
        return self.fates[run_id - 1]()

    @contextlib.contextmanager
    def control_of(self, federation):
        if self.away:
            self.away -= 1
            raise DeploymentError("it does not answer")
        yield self


@pytest.fixture
def ledger(tmp_path):
    made = Ledger.create(tmp_path / "run", {})
    (tmp_path / "run" / "rounds").mkdir(exist_ok=True)
    return made


@pytest.fixture
def supervise(monkeypatch, tmp_path, ledger):
    def run(server):
        monkeypatch.setattr(federation_run, "control_of", server.control_of)
        monkeypatch.setattr(federation_run, "_POLL_INTERVAL", 0.0)
        federation_run.supervise(Federation(tmp_path, "acme", "127.0.0.1", 1), ledger)

    return run


def lost():
    return ServerRunState("finished", "failed", "the SuperLink was restarted")


def fate(ledger, state, *facts, **more):
    def end():
        getattr(ledger.state_file, state)(*facts, **more)
        return ServerRunState("finished", "completed", "")

    return end


def test_a_lost_run_is_started_again_in_its_series(supervise, ledger):
    server = FakeServer(lost, lambda: None, fate(ledger, "finished"))
    server.away = 3
    supervise(server)
    assert server.series == [None, 77, 77]
    assert [event.reason for event in ledger.events() if event.kind == "run-lost"] == [
        "failed: the SuperLink was restarted",
        "the server no longer has this run",
    ]


def test_a_server_that_does_not_answer_for_a_while_causes_two_events(supervise, ledger):
    server = FakeServer(fate(ledger, "finished"))
    server.away = 3
    supervise(server)
    reported = [event for event in ledger.events() if event.kind in ("server-unreachable", "server-reachable")]
    assert [event.kind for event in reported] == ["server-unreachable", "server-reachable"]
    assert reported[0].reason == "it does not answer"


@pytest.fixture
def federation(tmp_path):
    made = Federation(tmp_path / "acme", "acme", "127.0.0.1", free_port())
    new_federation(made, ["hospital", "bank"])
    return made


def settings_of(*seen):
    table = {"base": "nowhere", "tasks": {"seen": list(seen)}, "contributors-per-round": 2}
    return parse_settings(table, "run.toml")


def test_a_task_must_be_the_name_of_a_member(federation):
    with pytest.raises(SettingsError, match="'hospitel'.*acme.*Did you mean 'hospital'") as error:
        federation_run.check_federation(federation, settings_of("hospitel", "bank"), "run.toml")
    assert error.value.code == ErrorCode.MEMBER_UNKNOWN


def test_a_run_is_resumed_without_a_member_that_left(federation, tmp_path):
    Ledger.create(tmp_path / "begun", {})
    settings = settings_of("gone", "bank").model_copy(update={"out": str(tmp_path / "begun")})
    with pytest.raises(DeploymentError) as error:
        federation_run.check_federation(federation, settings, "run.toml")
    assert error.value.code == ErrorCode.SERVER_UNREACHABLE  # which is the only problem


def test_no_run_starts_while_the_server_does_not_answer(federation):
    with pytest.raises(DeploymentError, match="coldfusion federation serve"):
        federation_run.check_federation(federation, settings_of("hospital", "bank"), "run.toml")


def test_a_run_that_failed_by_itself_is_not_started_again(supervise, ledger):
    server = FakeServer(fate(ledger, "failed", reason="only 1 contributor is connected", final=True))
    with pytest.raises(RunError, match="only 1 contributor is connected"):
        supervise(server)
    assert server.series == [None]


def test_a_run_that_is_lost_repeatedly_fails(supervise, ledger):
    server = FakeServer(*[lost] * 9)
    with pytest.raises(RunError, match="interrupted 5 times before the first base was saved"):
        supervise(server)
    assert len(server.series) == 5


def test_losses_are_counted_anew_after_a_finished_round(supervise, ledger, monkeypatch):
    finished = iter([[0], [0], [0, 1], [0, 1], [0, 1, 2], [0, 1, 2], [0, 1, 2, 3]])
    monkeypatch.setattr(Ledger, "rounds", lambda self: next(finished))
    supervise(FakeServer(*[lost] * 7, fate(ledger, "finished")))


def test_a_server_that_never_answers_fails_the_run(supervise, ledger, monkeypatch):
    monkeypatch.setattr(federation_run, "_MAX_ABSENCE", 0.05)
    server = FakeServer()
    server.away = 1_000_000
    with pytest.raises(DeploymentError, match="it does not answer"):
        supervise(server)


def test_a_rejected_request_is_not_repeated(supervise):
    def reject():
        asked.append(1)
        raise RequestRejectedError("the server rejects: no such run")

    asked = []
    with pytest.raises(RequestRejectedError, match="no such run"):
        supervise(FakeServer(reject))
    assert len(asked) == 1


def test_an_interrupted_run_is_stopped_at_the_server(supervise):
    def interrupt():
        raise KeyboardInterrupt

    server = FakeServer(interrupt)
    with pytest.raises(KeyboardInterrupt):
        supervise(server)
    assert server.stopped == [1]


def test_the_bundle_has_no_code_but_imports_of_the_installed_apps(tmp_path):
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(build_app_bundle(tmp_path / "run", tmp_path / "members.json"))) as bundle:
        code = {name: bundle.read(name).decode() for name in bundle.namelist() if name.endswith(".py")}
    assert sorted(code) == ["coldfusion_run/__init__.py", "coldfusion_run/client.py", "coldfusion_run/server.py"]
    assert sum(len(text) for text in code.values()) < 300
    assert build_app_bundle(tmp_path / "run", tmp_path / "m") == build_app_bundle(tmp_path / "run", tmp_path / "m")


def test_announced_arrays_that_do_not_arrive_are_given_up(monkeypatch):
    monkeypatch.setattr(http_grid, "pull_objects", http_grid.pull_objects)  # as it was, afterwards
    limit_array_wait()

    def pull(object_id):
        raise ObjectUnavailableError(object_id)

    class Grid:
        def pull_messages(self, message_ids):
            with pytest.raises(ObjectPullError):
                http_grid.pull_objects(["x"], pull)
            return []

    began = time.monotonic()
    sent = Metadata(1, "sent", 1, 2, "", "", time.time(), 60.0, "train")
    for _ in range(5):
        assert not pull_replies(Grid(), sent, deadline=began + 0.5)
    assert time.monotonic() - began < 30
