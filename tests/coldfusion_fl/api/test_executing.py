"""A run is followed until it ends or is interrupted."""

import os
import signal

import pytest

from coldfusion_fl.api import executing
from coldfusion_fl.execution.display import Display
from coldfusion_fl.runs.ledger import Ledger


class Process:
    """A run process during which Ctrl-C is pressed: once while it works, and again while it stops."""

    def events(self):
        yield None
        os.kill(os.getpid(), signal.SIGINT)
        yield None

    def stop(self):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_second_interrupt_does_not_keep_the_state_from_being_written(tmp_path):
    ledger = Ledger.create(tmp_path / "run", {"rounds": 2})
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            executing._follow(Process(), ledger, Display(2), print)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert (ledger.state.state, ledger.state.reason) == ("stopped", "it was interrupted")
