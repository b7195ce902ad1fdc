"""What the dashboard shows of a run, read from its folder."""

import math
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from coldfusion_fl.execution.display import Display
from coldfusion_fl.execution.log_file import LOG
from coldfusion_fl.formatting import finite, text
from coldfusion_fl.pages.contributions import round_rows
from coldfusion_fl.pages.run_page import run_page
from coldfusion_fl.runs import events
from coldfusion_fl.runs.events import Event
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.lineage import lineage
from coldfusion_fl.sanitize import sanitize

_LINES = 200  # of the log, and of the list of events
_LOG_BYTES = 64 * 1024
_POINTS = 200  # of a contributor's losses
_PROBLEMS = 50
_LONGEST_LINE = 2000
_FRESH = 1.0  # seconds for which an answer is given again


class LiveRun:
    """Reads the folder of a run for the dashboard; several browsers may ask at once.

    Args:
        folder: the run folder.
        read_status: returns the run's status, as `coldfusion status --json` prints it.

    Raises:
        RunFolderError: the folder holds no run.
    """

    def __init__(self, folder: Path, read_status: Callable[[], dict[str, Any]]) -> None:
        self.ledger = Ledger(folder)
        _ = self.ledger.settings  # raises if this is not a run folder
        self._read_status = read_status
        self._lock = threading.Lock()
        self._timeline = _Timeline(self.ledger.settings.get("rounds"))
        self._position = 0
        self._answer: tuple[float, dict[str, Any]] = (-math.inf, {})

    def status(self) -> dict[str, Any]:
        """The run's status, as `coldfusion status --json` prints it."""
        found: dict[str, Any] = self.snapshot()["status"]
        return found

    def snapshot(self) -> dict[str, Any]:
        """Everything that the dashboard shows, for JSON.

        Returns:
            `status`: as `status`; `rounds`: the saved rounds; `losses`: by contributor, rounds and losses;
            `events` and `problems`: time and text, all oldest first; `log`: the last lines of the log; `seconds-left`:
            an estimate, None where there is none.

        Raises:
            RunFolderError: the folder is damaged.
        """
        with self._lock:
            read_at, answer = self._answer
            if time.monotonic() - read_at > _FRESH:
                answer = self._read()
                self._answer = (time.monotonic(), answer)
            return answer

    def page(self) -> str:
        """The report of the rounds so far, as HTML.

        Raises:
            RunFolderError: the folder is damaged.
        """
        return run_page(self.ledger)

    def _read(self) -> dict[str, Any]:
        found, self._position = self.ledger.events_from(self._position)
        for event in found:
            self._timeline.handle(event)
        timeline, status = self._timeline, self._read_status()
        answer: dict[str, Any] = _json(
            {
                "name": text(self.ledger.folder.resolve().name, 200),
                "status": status,
                "seconds-left": timeline.seconds_left() if status["state"] == "running" else None,
                "rounds": round_rows(lineage(self.ledger)),
                "losses": timeline.losses,
                "events": timeline.lines,
                "problems": timeline.problems,
                "log": _tail(self.ledger.folder / LOG),
            }
        )
        return answer


class _Timeline:
    """Losses, lines and problems after the events so far."""

    def __init__(self, rounds: Any) -> None:
        self._display = Display(rounds if isinstance(rounds, int) else 0)
        self.losses: dict[str, list[tuple[int, float]]] = {}
        self.lines: list[tuple[float, str]] = []
        self.problems: list[tuple[float, str]] = []

    def handle(self, event: Event) -> None:
        """Take the next event into account."""
        if line := self._display.handle(event):
            self.lines = [*self.lines, (event.time, sanitize(line)[:_LONGEST_LINE])][-_LINES:]
        if problem := _problem(event):
            self.problems = [*self.problems, (event.time, text(problem))][-_PROBLEMS:]
        match event:
            case events.TrainingStep():
                self._add_loss(event.name, event.round, event.loss)
            case events.ContributionReceived() if "loss" in event.metrics:
                # The steps of a simulated contributor say more than the one loss that it reports in the end.
                if not any(number == event.round for number, _ in self.losses.get(event.name, ())):
                    self._add_loss(event.name, event.round, event.metrics["loss"])
            case events.RoundStarted():
                self._drop_losses(event.round)

    def seconds_left(self) -> float | None:
        """An estimate of the remaining seconds."""
        return self._display.seconds_left(time.time())

    def _drop_losses(self, begun: int) -> None:
        """Remove what a round that is begun again had before: a resumed run repeats its interrupted round."""
        kept = {name: [point for point in points if point[0] < begun] for name, points in self.losses.items()}
        self.losses = {name: points for name, points in kept.items() if points}

    def _add_loss(self, name: str, number: int, loss: float) -> None:
        if finite(loss) is not None:
            self.losses[name] = [*self.losses.get(name, []), (number, loss)][-_POINTS:]


def _problem(event: Event) -> str | None:
    """What is wrong, where an event says so."""
    match event:
        case events.ContributionRejected():
            found = f"{event.name}, round {event.round}: rejected, {event.reason}"
        case events.ContributorExcluded():
            found = f"{event.name}: excluded, {event.reason}"
        case events.ScoreFailed():
            found = f"{event.name}: no score of base {event.round}, {event.reason}"
        case events.BaseKept():
            found = f"round {event.round} kept its base: {event.reason}"
        case events.WorkerReplaced():
            found = f"{event.name}: its worker process ended unexpectedly and was replaced"
        case events.ServerUnreachable() | events.RunFailed() | events.RunLost():
            found = event.reason
        case _:
            return None
    return found


def _tail(log: Path) -> list[str]:
    """The last lines of a log, without codes for a terminal."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _LOG_BYTES))
            whole = file.read(_LOG_BYTES)
    except OSError:
        return []
    lines = click.unstyle(whole.decode(errors="replace")).splitlines()
    return [sanitize(line.expandtabs(4))[:_LONGEST_LINE] for line in lines[-_LINES:]]


def _json(value: Any) -> Any:
    """The same value for JSON in a browser, which knows no NaN and no infinite numbers: they become None."""
    if isinstance(value, Mapping):
        return {str(key): _json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_json(one) for one in value]
    return finite(value) if isinstance(value, float) else value
