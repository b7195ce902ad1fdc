"""How a run in a federation is watched and started again; the server's Control interface is played."""

import contextlib
import time

import pytest
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError
from flwr.superlink.grid import http_grid

from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.engines.deployment import remote
from coldfusion_fl.engines.deployment.app_bundle import build_app_bundle
from coldfusion_fl.engines.deployment.control import RequestRejectedError, RunState
from coldfusion_fl.engines.deployment.federation import Federation
from coldfusion_fl.engines.deployment.member.join import free_port
from coldfusion_fl.engines.deployment.server_app import wait_for_arrays_at_most
from coldfusion_fl.engines.deployment.setup import new_federation
from coldfusion_fl.errors import DeploymentError, RunError, SettingsError
from coldfusion_fl.run.ledger import Ledger


class Server:
    """Plays a server: each run that is started meets the next of some fates."""

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
        monkeypatch.setattr(remote, "control_of", server.control_of)
        monkeypatch.setattr(remote, "_POLL", 0.0)
        remote.supervise(Federation(tmp_path, "acme", "127.0.0.1", 1), ledger)

    return run


def lost():
    return RunState("finished", "failed", "the SuperLink was restarted")


def fate(ledger, state, **facts):
    def end():
        ledger.set_status(state, **facts)
        return RunState("finished", "completed", "")

    return end


def test_a_run_that_is_lost_is_started_again_in_its_series(supervise, ledger):
    server = Server(lost, lambda: None, fate(ledger, "finished"))
    server.away = 3
    supervise(server)
    assert server.series == [None, 77, 77]
    assert [event["reason"] for event in ledger.events() if event["kind"] == "lost"] == [
        "failed: the SuperLink was restarted",
        "the server does not know it any more",
    ]


def test_that_the_server_is_away_and_back_is_told(supervise, ledger):
    server = Server(fate(ledger, "finished"))
    server.away = 3
    supervise(server)
    told = [event for event in ledger.events() if event["kind"] in ("away", "back")]
    assert [event["kind"] for event in told] == ["away", "back"]
    assert told[0]["reason"] == "it does not answer"


@pytest.fixture
def federation(tmp_path):
    made = Federation(tmp_path / "acme", "acme", "127.0.0.1", free_port())
    new_federation(made, ["hospital", "bank"])
    return made


def settings_of(*seen):
    table = {"base": "nowhere", "tasks": {"seen": list(seen)}, "contributors-per-round": 2}
    return parse_settings(table, "run.toml")


def test_a_task_that_is_no_members_name_is_said_before_a_run_begins(federation):
    with pytest.raises(SettingsError, match="names 'hospitel', which is no member of acme. Did you mean 'hospital'"):
        remote.check_server_side(federation, settings_of("hospitel", "bank"), "run.toml")


def test_a_run_goes_on_without_a_member_that_left(federation, tmp_path):
    Ledger.create(tmp_path / "begun", {})
    settings = settings_of("gone", "bank").model_copy(update={"out": str(tmp_path / "begun")})
    with pytest.raises(DeploymentError, match="does not answer"):  # that alone is wrong
        remote.check_server_side(federation, settings, "run.toml")


def test_no_run_begins_where_the_server_is_away(federation):
    with pytest.raises(DeploymentError, match="does not answer.*coldfusion federation serve"):
        remote.check_server_side(federation, settings_of("hospital", "bank"), "run.toml")


def test_an_end_of_ours_is_the_end(supervise, ledger):
    server = Server(fate(ledger, "failed", reason="only 1 contributors are there", final=True))
    with pytest.raises(RunError, match="only 1 contributors are there"):
        supervise(server)
    assert server.series == [None]


def test_a_run_that_is_lost_again_and_again_is_given_up(supervise, ledger):
    server = Server(*[lost] * 9)
    with pytest.raises(RunError, match="lost 5 times after round -1"):
        supervise(server)
    assert len(server.series) == 5


def test_a_round_that_was_finished_counts_as_a_step_forward(supervise, ledger, monkeypatch):
    finished = iter([[0], [0], [0, 1], [0, 1], [0, 1, 2], [0, 1, 2], [0, 1, 2, 3]])
    monkeypatch.setattr(Ledger, "rounds", lambda self: next(finished))
    supervise(Server(*[lost] * 7, fate(ledger, "finished")))


def test_a_server_that_stays_away_is_given_up_at_last(supervise, ledger, monkeypatch):
    monkeypatch.setattr(remote, "_LONGEST_ABSENCE", 0.05)
    server = Server()
    server.away = 1_000_000
    with pytest.raises(DeploymentError, match="it does not answer"):
        supervise(server)


def test_a_server_that_rejects_is_not_asked_for_an_hour(supervise):
    def reject():
        asked.append(1)
        raise RequestRejectedError("the server rejects: no such run")

    asked = []
    with pytest.raises(RequestRejectedError, match="no such run"):
        supervise(Server(reject))
    assert len(asked) == 1


def test_a_run_that_a_person_ends_is_ended_at_the_server_too(supervise):
    def interrupt():
        raise KeyboardInterrupt

    server = Server(interrupt)
    with pytest.raises(KeyboardInterrupt):
        supervise(server)
    assert server.stopped == [1]


def test_the_bundle_holds_no_code_but_pointers_to_what_is_installed(tmp_path):
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(build_app_bundle(tmp_path / "run", tmp_path / "members.json"))) as bundle:
        code = {name: bundle.read(name).decode() for name in bundle.namelist() if name.endswith(".py")}
    assert sorted(code) == ["coldfusion_run/__init__.py", "coldfusion_run/client.py", "coldfusion_run/server.py"]
    assert sum(len(text) for text in code.values()) < 300
    assert build_app_bundle(tmp_path / "run", tmp_path / "m") == build_app_bundle(tmp_path / "run", tmp_path / "m")


def test_arrays_that_were_announced_and_do_not_come_are_given_up(monkeypatch):
    monkeypatch.setattr(http_grid, "pull_objects", http_grid.pull_objects)  # as it was, afterwards
    wait_for_arrays_at_most(0.1)

    def pull(object_id):
        raise ObjectUnavailableError(object_id)

    began = time.monotonic()
    with pytest.raises(ObjectPullError):
        http_grid.pull_objects(["x"], pull)
    assert time.monotonic() - began < 30
