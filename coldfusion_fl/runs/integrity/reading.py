"""Reading a run folder beside the process that writes it."""

import time
from collections.abc import Callable
from typing import TypeVar

from coldfusion_fl.errors import RunFolderError
from coldfusion_fl.runs.ledger import Ledger

Found = TypeVar("Found")
_ATTEMPTS = 10
_PAUSE = 0.05  # seconds


def read_consistently(ledger: Ledger, read: Callable[[], Found]) -> Found:
    """Read several files of a run folder, as they were at one moment or nearly so.

    Each file is whole at any moment. But a process may take a round back, or write scores again, between two of them,
    and then they contradict each other for a moment. So what fails beside a writer is read again.

    Raises:
        RunFolderError: the folder holds no run; or whatever `read` raises, if it does so although no process works on
            the run, or each time.
    """
    _ = ledger.settings  # raises if this is not a run folder
    for attempt in range(_ATTEMPTS):
        try:
            return read()
        except RunFolderError:
            # A process may have ended since, so without one there is a second attempt too.
            if attempt and not ledger.is_locked:
                raise
        time.sleep(_PAUSE)
    return read()
