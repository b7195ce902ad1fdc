"""Log a run while it runs, in a thread for each tracker, or afterwards."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from coldfusion_fl.config.settings import TrackingSettings
from coldfusion_fl.errors import ColdFusionError, first_line
from coldfusion_fl.runs.events import TrackerFailed
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.sanitize import sanitize
from coldfusion_fl.tracking.follower import Follower
from coldfusion_fl.tracking.registry import check_tracking

_log = logging.getLogger("coldfusion_fl")
_INTERVAL = 1.0  # seconds between two looks at the run folder
_RETRY_INTERVAL = 60.0  # seconds after an error
_MAX_WAIT = 60.0  # seconds at the end of the run


@contextlib.contextmanager
def track(ledger: Ledger, settings: TrackingSettings) -> Iterator[None]:
    """Within this context, a run is logged to the trackers of its settings.

    The trackers follow the run folder from threads of their own. An error or a delay of a tracker is reported once, as
    a warning and an event, and the run goes on. The tracker is tried again later. The end of the context waits at most
    a minute for the trackers.

    Args:
        ledger: the run folder; rounds that are saved in it before are logged too.
        settings: of the table [tracking].

    Raises:
        SettingsError: a tracker is unknown, or its package is not installed.
    """
    check_tracking(settings)
    threads = [_TrackerThread(ledger, name, settings) for name in settings.to]
    for thread in threads:
        thread.start()
    succeeded = False
    try:
        yield
        succeeded = True
    finally:
        deadline = time.monotonic() + _MAX_WAIT
        for thread in threads:
            thread.end(succeeded)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                thread.report(f"it did not finish within {_MAX_WAIT:g} s")


def log_run(ledger: Ledger, settings: TrackingSettings) -> None:
    """Log what is missing of a run in its trackers, when no process works on it.

    Args:
        ledger: the run folder.
        settings: of the table [tracking].

    Raises:
        SettingsError: a tracker is unknown, or its package is not installed.
        RunFolderError: a process works on the run, and logs it.
        Exception: whatever the library of a tracker raises.
    """
    check_tracking(settings)
    with ledger.lock():
        for name in settings.to:
            Follower(ledger, name, settings).finish(succeeded=ledger.state.state == "finished")


class _TrackerThread(threading.Thread):
    """Follows a run folder for one tracker: a tracker that does not answer delays neither the run nor the others."""

    def __init__(self, ledger: Ledger, name: str, settings: TrackingSettings) -> None:
        super().__init__(name=f"tracker-{name}", daemon=True)
        self._follower = Follower(ledger, name, settings)
        self._ledger = ledger
        self._ending = threading.Event()
        self._succeeded = False
        self._has_reported = False

    def run(self) -> None:
        interval = 0.0
        while not self._ending.wait(interval):
            interval = _INTERVAL if self._attempt(self._follower.update) else _RETRY_INTERVAL
        self._attempt(lambda: self._follower.finish(self._succeeded))

    def end(self, succeeded: bool) -> None:
        """Have the thread log what is left, and end."""
        self._succeeded = succeeded
        self._ending.set()

    def report(self, reason: str) -> None:
        """Warn that the tracker failed, the first time."""
        if self._has_reported:
            return
        self._has_reported = True
        name, folder = self._follower.name, self._ledger.folder
        advice = f"What is missing is logged later, when the run resumes, or with `coldfusion track {folder}`."
        _log.warning("%s cannot log this run, which goes on: %s. %s", name, reason.rstrip("."), advice)
        with contextlib.suppress(ColdFusionError):  # a full disk may be the reason
            self._ledger.emit(TrackerFailed(tracker=name, reason=f"{reason.rstrip('.')}. {advice}"))

    def _attempt(self, action: Callable[[], None]) -> bool:
        # Libraries raise anything, and some end the process: neither may happen to a run.
        try:
            action()
        except (Exception, SystemExit) as failure:
            _log.debug("The tracker %s failed.", self._follower.name, exc_info=True)
            self.report(f"{type(failure).__name__}: {sanitize(first_line(failure))}")
            return False
        return True
