"""The file `status.json` of a run folder: whether the run is running, and how it ended. Only this module writes it."""

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from coldfusion_fl.atomic_files import disk_errors, write_json
from coldfusion_fl.errors import ColdFusionError
from coldfusion_fl.runs.records import Recorded

Phase = Literal["running", "finished", "stopped", "failed", "unknown"]


def timestamp() -> str:
    """The local time with its zone, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S%z")


class RunState(Recorded):
    """How a run stands.

    Attributes:
        state: `unknown` where the file is missing or damaged.
        since: when the state was written.
        last_round: the last round that is saved; None: none.
        reason: why the run ended early.
        final: whether another attempt would fail in the same way.
        peak_memory_bytes: of the run's process and its descendants.
    """

    state: Phase = "unknown"
    since: str = Field(default_factory=timestamp)
    last_round: int | None = None
    reason: str | None = None
    final: bool = False
    peak_memory_bytes: int | None = None


class StateFile:
    """Reads and writes the state of a run. Each transition is a method.

    Args:
        file: the file; it need not exist.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._is_tracked = False

    def read(self) -> RunState:
        """The state as the file has it."""
        try:
            return RunState.model_validate(json.loads(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError, ValidationError):
            return RunState()

    def running(self) -> None:
        """The run started, or goes on."""
        self._change(state="running", reason=None, final=False)

    def round_saved(self, number: int) -> None:
        """A round is on disk. Whether the run is running does not change: a person may add a round to an ended run."""
        self._change(last_round=number)

    def finished(self, peak_memory_bytes: int | None = None) -> None:
        """The run reached its end."""
        measured = {} if peak_memory_bytes is None else {"peak_memory_bytes": peak_memory_bytes}
        self._change(state="finished", reason=None, final=False, **measured)

    def stopped(self, reason: str) -> None:
        """A person stopped the run."""
        self._change(state="stopped", reason=reason)

    def failed(self, reason: str, *, final: bool | None = None) -> None:
        """The run ended early. None keeps what is known of `final`."""
        self._change(state="failed", reason=reason, **({} if final is None else {"final": final}))

    @contextlib.contextmanager
    def tracked(self, on_failure: Callable[[str], None] = lambda reason: None) -> Iterator[None]:
        """Within this context the run is running; afterwards it is finished, or failed.

        An error of this package is final: another attempt would end in the same way. Any other end, such as a lost
        connection, is not. A run that a person stopped stays `stopped`. Contexts may be nested: the outermost decides.

        Args:
            on_failure: called with the reason, unless a person stopped the run.
        """
        if self._is_tracked:
            yield
            return
        self._is_tracked = True
        self.running()
        try:
            yield
        except BaseException as end:
            reason = str(end) if isinstance(end, ColdFusionError) else f"{type(end).__name__}: {end}"
            with contextlib.suppress(ColdFusionError):  # a full disk may be the reason
                if self.read().state != "stopped":
                    self.failed(reason, final=isinstance(end, ColdFusionError))
                    on_failure(reason)
            raise
        finally:
            self._is_tracked = False
        self.finished()

    def _change(self, **changes: Any) -> None:
        state = self.read().model_copy(update={"since": timestamp(), **changes})
        with disk_errors(self._file.parent):
            write_json(self._file, state.to_json())
