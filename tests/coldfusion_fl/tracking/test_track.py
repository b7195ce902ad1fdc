"""A tracker never ends or delays a run; what can be known before a run is checked before it."""

import importlib.util
import logging
import threading
import time

import pytest
from tracked_runs import add_round, new_run

from coldfusion_fl.config.settings import TrackingSettings
from coldfusion_fl.errors import ErrorCode, RunFolderError, SettingsError
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.tracking import track as track_module
from coldfusion_fl.tracking.registry import TRACKERS, check_tracking
from coldfusion_fl.tracking.track import log_run, track
from coldfusion_fl.tracking.tracker import Tracker

ONE = TrackingSettings(to=("recorder",))


class Recorder(Tracker):
    """Keeps what it is given, for the tests; `failures` are raised first, one at each call of `log`."""

    package = "json"
    opened: list
    logged_steps: list
    closed: list
    failures: list

    def open(self):
        self.opened.append(self.run.id)

    def logged(self, step):
        return ()

    def log(self, step, time, metrics):
        if self.failures:
            raise self.failures.pop(0)
        self.logged_steps.append((step, min(metrics).partition("/")[0]))

    def log_image(self, step, name, file):
        self.logged_steps.append((step, name))

    def close(self, succeeded):
        self.closed.append(succeeded)


@pytest.fixture
def recorder(monkeypatch):
    kind = type("Recorder", (Recorder,), {"opened": [], "logged_steps": [], "closed": [], "failures": []})
    trackers = {**TRACKERS, "recorder": kind}
    monkeypatch.setattr("coldfusion_fl.tracking.registry.TRACKERS", trackers)
    monkeypatch.setattr("coldfusion_fl.tracking.follower.TRACKERS", trackers)
    monkeypatch.setattr(track_module, "_INTERVAL", 0.01)
    monkeypatch.setattr(track_module, "_RETRY_INTERVAL", 0.01)
    return kind


def failures(ledger):
    return [event.reason for event in ledger.events() if event.kind == "tracker-failed"]


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_rounds_are_logged_while_the_run_goes_on(recorder, tmp_path):
    ledger = new_run(tmp_path / "run", rounds=0)
    with track(ledger, ONE):
        wait_until(lambda: recorder.logged_steps == [(0, "round"), (0, "mean")])
        add_round(ledger, scores=False)
        wait_until(lambda: recorder.logged_steps[2:] == [(1, "contributor")])
        add_round(ledger)
        (ledger.folder / "scores.png").touch()
    assert recorder.logged_steps[3:] == [(2, "contributor"), (2, "mean"), (2, "scores")]
    assert recorder.opened == [ledger.run_id]
    assert recorder.closed == [True]


def test_scores_that_come_after_a_resume_are_logged(recorder, tmp_path):
    ledger = new_run(tmp_path / "run", rounds=0)
    add_round(ledger, scores=False)
    with track(ledger, ONE):
        pass
    assert recorder.logged_steps[-1] == (1, "contributor")
    ledger.save_scores(1, {"a": {"frozen": 1.0}})
    with track(ledger, ONE):
        pass
    assert recorder.logged_steps[-2:] == [(1, "contributor"), (1, "mean")]


def test_a_failed_run_is_closed_as_one_without_figures(recorder, tmp_path):
    ledger = new_run(tmp_path / "run")
    (ledger.folder / "scores.png").touch()
    with pytest.raises(KeyError), track(ledger, ONE):
        raise KeyError
    assert recorder.closed == [False]
    assert recorder.logged_steps[-1] == (2, "mean")


def test_a_tracker_that_fails_is_reported_once_and_tried_again(recorder, tmp_path, caplog):
    ledger = new_run(tmp_path / "run")
    recorder.failures = [ConnectionError("no\x1b[31mroute\nto host"), SystemExit(1), ValueError("still not")]
    with caplog.at_level(logging.WARNING), track(ledger, ONE):
        wait_until(lambda: len(recorder.logged_steps) == 6)
    assert recorder.logged_steps[0] == (0, "round")
    [reason] = failures(ledger)
    assert reason.startswith("ConnectionError: no?[31mroute. ")
    assert f"coldfusion track {ledger.folder}" in reason
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


def test_a_tracker_that_hangs_delays_the_end_of_the_run_by_a_limited_time(recorder, tmp_path, monkeypatch):
    released = threading.Event()
    recorder.log = lambda *_: released.wait(60)
    monkeypatch.setattr(track_module, "_MAX_WAIT", 0.2)
    ledger = new_run(tmp_path / "run")
    began = time.monotonic()
    with track(ledger, ONE):
        pass
    assert time.monotonic() - began < 20
    assert "did not finish within 0.2 s" in failures(ledger)[0]
    released.set()


def test_a_damaged_note_of_what_is_logged_is_made_again(recorder, tmp_path):
    ledger = new_run(tmp_path / "run")
    log_run(ledger, ONE)
    logged = list(recorder.logged_steps)
    (ledger.folder / "tracking" / "recorder.json").write_text('{"round": "x"')
    log_run(ledger, ONE)
    assert recorder.logged_steps == logged + logged


def test_a_run_that_a_process_works_on_is_not_logged_by_another(recorder, tmp_path):
    ledger = new_run(tmp_path / "run")
    with ledger.lock(), pytest.raises(RunFolderError) as error:
        log_run(Ledger(ledger.folder), ONE)
    assert error.value.code == ErrorCode.RUN_LOCKED


def rejected(**settings):
    with pytest.raises(SettingsError) as error:
        check_tracking(TrackingSettings(**settings))
    return error.value


def test_an_unknown_tracker_is_rejected():
    error = rejected(to=("tensorbord",))
    assert error.code == ErrorCode.COMPONENT_UNKNOWN
    assert "Did you mean 'tensorboard'?" in str(error)


@pytest.mark.parametrize("name", sorted(TRACKERS))
def test_a_tracker_whose_package_is_missing_is_rejected_with_its_extra(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda package: None)
    error = rejected(to=(name,))
    assert error.code == ErrorCode.EXTRA_MISSING
    assert f"pip install 'coldfusion-fl[{name}]'" in str(error)


@pytest.mark.parametrize("uri", ["localhost:5000", "/some/folder", "sqlite:///mlflow.db"])
def test_an_address_that_mlflow_would_misread_is_rejected(uri):
    assert repr(uri) in str(rejected(to=("mlflow",), uri=uri))


@pytest.mark.parametrize(
    "uri", ["postgresql://u:s3cret@host/db", "https://u:s3cret@host", "postgresql://host/db?user=u&password=s3cret"]
)
def test_a_password_in_an_address_is_rejected_and_not_repeated(uri):
    error = rejected(to=("mlflow",), uri=uri)
    assert error.code == ErrorCode.SETTING_INVALID
    assert "MLFLOW_TRACKING_PASSWORD" in str(error)
    assert "s3cret" not in str(error)


@pytest.mark.parametrize("uri", ["http://10.0.0.1:5000", "postgresql://u@host/db", "sqlite:////srv/a:b@c.db"])
def test_an_address_without_a_password_is_accepted(uri):
    check_tracking(TrackingSettings(to=("mlflow",), uri=uri))


def test_wandb_without_a_login_is_rejected_unless_offline(tmp_path, monkeypatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert "wandb login" in str(rejected(to=("wandb",)))
    check_tracking(TrackingSettings(to=("wandb",), offline=True))
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_tracking(TrackingSettings(to=("wandb",)))


@pytest.mark.parametrize("project", ["a/b", "../x", "", "x" * 65, "a b"])
def test_a_project_that_is_no_name_of_a_file_is_rejected(project):
    with pytest.raises(SettingsError):
        TrackingSettings(project=project)
