"""Brings a tracked run up to date with the run folder, from which everything that is logged is read.

A file beside the tracker's own says what is logged: `tracking/TRACKER.json` in the run folder. So a run that was
killed, or whose tracker could not be reached, continues where the tracker stands, and a run can be logged afterwards.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from coldfusion_fl.atomic_files import write_json
from coldfusion_fl.config.settings import TrackingSettings
from coldfusion_fl.config.tables import flatten
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.records import Recorded
from coldfusion_fl.tracking.metrics import round_metrics, score_metrics
from coldfusion_fl.tracking.registry import TRACKERS
from coldfusion_fl.tracking.tracker import TrackedRun


class Position(Recorded):
    """What of a run is logged to a tracker.

    Attributes:
        place: the settings that say where the tracker logs to. With others, everything is logged again.
        round: the round that is logged next.
        part: what of this round is logged next: its record, or then its scores.
        figures: the last round when the figures were logged; -1: never.
    """

    place: dict[str, str]
    round: int = 0
    part: Literal["record", "scores"] = "record"
    figures: int = -1


class Follower:
    """Logs to one tracker what is saved in a run folder and not logged yet.

    Args:
        ledger: the run folder.
        name: the tracker.
        settings: of the table [tracking].
    """

    def __init__(self, ledger: Ledger, name: str, settings: TrackingSettings) -> None:
        own = ledger.folder / "tracking"
        run = TrackedRun(
            id=ledger.run_id,
            name=f"{ledger.folder.name}-{ledger.run_id[:8]}",
            folder=Path(settings.folder).resolve() if settings.folder else own.resolve(),
            config=flatten(ledger.settings),
            settings=settings,
        )
        self.name = name
        self._ledger = ledger
        self._tracker = TRACKERS[name](run)
        self._file = own / f"{name}.json"
        place = {"project": settings.project, "folder": settings.folder, "uri": settings.uri}
        self._position = self._read_position(place)
        self._is_open = False
        # Whether the tracker has nothing of what is logged next. A process may end after it has logged a value and
        # before it has noted that in the file.
        self._is_certain = False

    def update(self) -> None:
        """Log the rounds and scores that were saved since the last call.

        Raises:
            Exception: whatever the library of the tracker raises; or the run folder is damaged.
        """
        newest = max(self._ledger.rounds(), default=-1)
        while self._position.round <= newest:
            number = self._position.round
            if self._position.part == "record":
                self._log(number, round_metrics(self._ledger.record(number)), round=number, part="scores")
            elif self._ledger.has_scores(number):
                self._log(number, score_metrics(self._ledger.load_scores(number)), round=number + 1, part="record")
            elif number == newest:
                return  # it may still be evaluated; an earlier round will not
            else:
                self._move(round=number + 1, part="record")

    def finish(self, succeeded: bool) -> None:
        """Log what is left, with the figures of the report, and end the work on the tracked run.

        Args:
            succeeded: whether the run reached its end.

        Raises:
            Exception: as `update`.
        """
        self.update()
        last = max(self._ledger.rounds(), default=-1)
        figures = sorted(self._ledger.folder.glob("*.png"))
        if succeeded and figures and self._position.figures < last:
            self._open()
            for file in figures:
                self._tracker.log_image(last, file.stem, file)
            self._move(figures=last)
        if self._is_open:
            self._tracker.close(succeeded)
            self._is_open = False

    def _log(self, step: int, metrics: Mapping[str, float], **position: int | str) -> None:
        """Log metrics that the tracker does not have, and note the position behind them."""
        self._open()
        there = set() if self._is_certain else metrics.keys() & set(self._tracker.logged(step))
        self._is_certain = False
        if missing := {name: value for name, value in metrics.items() if name not in there}:
            self._tracker.log(step, self._ledger.record(step).ended, missing)
        self._move(**position)
        self._is_certain = not there

    def _open(self) -> None:
        if not self._is_open:
            self._tracker.open()
            self._is_open = True

    def _move(self, **changes: int | str) -> None:
        position = self._position.model_copy(update=changes)
        self._file.parent.mkdir(exist_ok=True)
        write_json(self._file, position.to_json())
        self._position = position

    def _read_position(self, place: dict[str, str]) -> Position:
        try:
            found = Position.model_validate(json.loads(self._file.read_text(encoding="utf-8")))
        except (OSError, ValueError):  # nothing is logged yet, or the file is damaged
            return Position(place=place)
        return found if found.place == place else Position(place=place)
