"""How a run stands: its round, its members, and its disk space."""

import contextlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from coldfusion_fl.config.tables import dashed
from coldfusion_fl.runs import events
from coldfusion_fl.runs.events import Event
from coldfusion_fl.runs.integrity.problems import find_problems
from coldfusion_fl.runs.integrity.reading import read_consistently
from coldfusion_fl.runs.ledger import Ledger

LOST = "lost"
ACTIVITIES = ("training", "evaluating", "answered", "rejected", "missing", "excluded", "idle")


@dataclass
class MemberStatus:
    """How a contributor, or a node that only evaluates, stands.

    Attributes:
        name: its name.
        seen: whether it contributes; if not, it only evaluates.
        activity: one of `ACTIVITIES`.
        reason: why it was last rejected or excluded; empty again after it answered.
        fused: the number of rounds that it was fused in.
        rejected: the number of its rejections in finished rounds.
        last_heard: when something last arrived from it, in seconds since 1970; if the federation's server was asked,
            heartbeats count too. None: nothing arrived in this run.
        online: whether its node is connected; None: unknown.
    """

    name: str
    seen: bool = True
    activity: str = "idle"
    reason: str = ""
    fused: int = 0
    rejected: int = 0
    last_heard: float | None = None
    online: bool | None = None


@dataclass
class RunStatus:
    """How a run stands.

    Attributes:
        folder: the run folder.
        state: as in `state.RunState`, or `lost`: its state is `running`, but no process works on it.
        reason: why it ended early.
        round: the last saved round; None: no base is saved yet.
        rounds: the number of rounds that it is to have.
        phase: what is going on.
        lost: how often it was lost and started again.
        members: everyone who took part so far.
        bytes: the size of the run folder.
        free_bytes: the free space on its disk.
        bases: the rounds whose bases are on disk.
        warnings: sentences on what needs attention: files of the folder that cannot be read, or a certificate that
            expires soon.
        database_bytes: the size of the database of the run's federation; None: not asked for.
    """

    folder: str
    state: str
    reason: str | None
    round: int | None
    rounds: int | None
    phase: str
    lost: int
    members: list[MemberStatus]
    bytes: int
    free_bytes: int
    bases: list[int] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    database_bytes: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The same as nested tables, with dashed keys."""
        table = asdict(self)
        table["members"] = [_dashed(member) for member in table["members"]]
        return _dashed(table)


def run_status(ledger: Ledger) -> RunStatus:
    """How a run stands, by its folder.

    Raises:
        RunFolderError: the folder holds no run, or is damaged.
    """
    return read_consistently(ledger, lambda: _read_status(ledger))


def _read_status(ledger: Ledger) -> RunStatus:
    settings, records, all_events = ledger.settings, ledger.records(), ledger.events()
    current = ledger.state
    # A run whose process was killed still says that it is running, but nobody holds its lock.
    state: str = LOST if current.state == "running" and not ledger.is_locked else current.state
    timeline = _Timeline()
    for event in all_events:
        timeline.handle(event)
    # The events of a resumed run repeat its interrupted round, so what was fused is counted from the records.
    fused = Counter(name for record in records if record.fused for name in record.contributions)
    rejected = Counter(rejection.name for record in records for rejection in record.rejected)
    for name, member in timeline.members.items():
        member.fused, member.rejected = fused[name], rejected[name]
    if state != "running":
        timeline.end()
    return RunStatus(
        folder=str(ledger.folder),
        state=state,
        reason=current.reason,
        round=records[-1].round if records else None,
        rounds=settings.get("rounds"),
        phase=timeline.phase,
        lost=sum(isinstance(event, events.RunLost) for event in all_events),
        members=sorted(timeline.members.values(), key=lambda member: (not member.seen, member.name)),
        bytes=_size_of(ledger.folder),
        free_bytes=shutil.disk_usage(ledger.folder).free,
        bases=[record.round for record in records if (ledger.round_folder(record.round) / "base.safetensors").exists()],
        warnings=find_problems(ledger),
    )


def _size_of(folder: Path) -> int:
    """The size of the files in a folder. The run renames and removes some of them meanwhile; these are left out."""
    sizes: dict[int, int] = {}  # by inode, because rounds share files by hard links
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found = Path(parent, name).stat()
                sizes[found.st_ino] = found.st_size
    return sum(sizes.values())


class _Timeline:
    """The members, what each of them does, and what is going on, after the events so far."""

    def __init__(self) -> None:
        self.members: dict[str, MemberStatus] = {}
        self.phase = "waiting for members"
        self._excluded: set[str] = set()  # in the present round

    def handle(self, event: Event) -> None:
        """Take the next event into account."""
        match event:
            case events.RunStarted() | events.RunLost():
                self.phase = "waiting for members"
                self._excluded = set()
                self._set_activities({})
            case events.WaitingForNodes():
                self.phase = event.describe()
            case events.NodesConnected():
                for names, seen in ((event.seen, True), (event.unseen, False)):
                    for name in names:
                        self._member(name).seen = seen
                        self._member(name).last_heard = event.time
            case events.RoundStarted():
                self.phase = f"round {event.round}: contributors train"
                self._excluded = set(event.excluded)
                missing = dict.fromkeys(event.missing, "missing")
                self._set_activities(missing | dict.fromkeys(event.sampled, "training"))
            case events.EvaluationStarted():
                self.phase = f"base {event.round} is evaluated"
                self._set_activities(dict.fromkeys(event.names, "evaluating"))
            case events.RoundFused() | events.BaseKept() | events.EvaluationFinished():
                self.phase = "between rounds"
            case _:
                self._handle_member(event)

    def _handle_member(self, event: Event) -> None:
        match event:
            case events.TrainingStep():
                member = self._member(event.name)
                member.activity, member.last_heard = "training", event.time
            case events.ContributionReceived() | events.ScoreReceived():
                member = self._member(event.name)
                member.activity, member.reason, member.last_heard = "answered", "", event.time
            case events.ContributionRejected():
                member = self._member(event.name)
                member.activity, member.reason = "rejected", event.reason
                if event.received:
                    member.last_heard = event.time
            case events.ScoreFailed():
                member = self._member(event.name)
                member.activity, member.reason = "rejected", event.reason
            case events.ContributorExcluded():
                member = self._member(event.name)
                member.activity, member.reason = "excluded", event.reason
                if event.received:
                    member.last_heard = event.time
                self._excluded.add(event.name)

    def end(self) -> None:
        """The run is over, so no member trains or evaluates."""
        self.phase = "ended"
        for member in self.members.values():
            if member.activity in ("training", "evaluating"):
                member.activity = "idle"

    def _member(self, name: str) -> MemberStatus:
        return self.members.setdefault(name, MemberStatus(name))

    def _set_activities(self, activities: Mapping[str, str]) -> None:
        for name in activities.keys() | self._excluded:
            self._member(name)
        for member in self.members.values():
            usual = "excluded" if member.name in self._excluded else "idle"
            member.activity = activities.get(member.name, usual)


def format_ago(then: float | None, now: float | None = None) -> str:
    """How long ago something was: `3 min ago`."""
    if then is None:
        return "never"
    seconds = max(0, round((time.time() if now is None else now) - then))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _dashed(table: Mapping[str, Any]) -> dict[str, Any]:
    return {dashed(key): value for key, value in table.items()}
