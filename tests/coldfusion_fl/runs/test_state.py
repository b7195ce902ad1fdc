"""The state of a run, in `status.json`."""

import contextlib

import pytest

from coldfusion_fl.errors import SettingsError
from coldfusion_fl.runs.ledger import Ledger


@pytest.fixture
def ledger(tmp_path):
    return Ledger.create(tmp_path / "run", {"rounds": 2})


def test_a_run_is_finished_when_all_of_it_is(ledger):
    """The rounds of a strategy lie within what the server app does, which writes the model after them."""
    with ledger.track_state():
        with ledger.track_state():
            pass
        assert ledger.state.state == "running"
    assert ledger.state.state == "finished"
    with contextlib.suppress(SettingsError), ledger.track_state():
        with ledger.track_state():
            pass
        raise SettingsError("the disk is full")
    assert (ledger.state.state, ledger.state.final) == ("failed", True)
    with ledger.track_state():
        pass
    assert ledger.state.state == "finished"


def test_a_run_that_goes_on_has_not_failed_for_good(ledger):
    with contextlib.suppress(SettingsError), ledger.track_state():
        raise SettingsError("no")
    assert ledger.state.final is True
    resumed = Ledger.resume(ledger.folder, {"rounds": 2})
    assert (resumed.state.state, resumed.state.reason, resumed.state.final) == ("running", None, False)


def test_what_a_person_stopped_has_not_failed(ledger):
    with contextlib.suppress(SystemExit), ledger.track_state():
        # By the command line, before the server app hears of it.
        Ledger(ledger.folder).state_file.stopped("it was interrupted")
        raise SystemExit(0)
    assert ledger.state.state == "stopped"
    assert not ledger.events()


def test_a_change_of_the_state_keeps_what_is_known(ledger):
    ledger.state_file.round_saved(3)
    ledger.state_file.failed("no memory", final=True)
    ledger.state_file.failed("its process ended with code 1")
    state = ledger.state
    assert (state.last_round, state.reason, state.final) == (3, "its process ended with code 1", True)
    ledger.state_file.finished(peak_memory_bytes=7)
    ledger.state_file.finished()
    assert (ledger.state.peak_memory_bytes, ledger.state.reason) == (7, None)
