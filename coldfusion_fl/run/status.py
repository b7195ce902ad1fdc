"""How a run stands: its round, who is in it, and what is on the disk."""

import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from coldfusion_fl.run.ledger import Ledger

# What an event says of the one that it names; some come of something that it sent.
_SAID = {
    "training": "trains",
    "received": "answered",
    "rejected": "rejected",
    "score": "answered",
    "unscored": "rejected",
    "excluded": "left out",
}
_HEARD = ("training", "received", "score")


@dataclass
class MemberStatus:
    """How a contributor, or a node that only judges, stands.

    Attributes:
        name: its name.
        seen: whether it contributes; if not, it only judges.
        doing: `trains`, `answered`, `rejected`, `judges`, `missing`, `left out` or `idle`.
        reason: why it was last rejected or left out; empty again when something of it was taken.
        fused: in how many rounds it was fused.
        rejected: how often it was rejected in the rounds that are over, for whatever reason.
        last_heard: when something came from it, in seconds since 1970; None: never.
        online: whether the server is in touch with its node; None where nobody knows.
    """

    name: str
    seen: bool = True
    doing: str = "idle"
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
        state: `running`, `finished`, `failed`, `stopped`, or `lost`: it ran, and no process is at it any more.
        reason: why it ended before its end.
        round: the last whole round; None before the first base.
        rounds: how many it is to have.
        phase: what goes on.
        lost: how often it was lost and went on.
        members: who took part so far.
        bytes: of the run folder.
        free_bytes: of its disk.
        bases: the rounds whose bases are on the disk.
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

    def as_json(self) -> dict[str, Any]:
        """The same as nested tables, with dashed keys."""
        table = asdict(self)
        table["members"] = [_dashed(member) for member in table["members"]]
        return _dashed(table)


def run_status(ledger: Ledger) -> RunStatus:
    """How a run stands, by its folder.

    Raises:
        RunFolderError: the folder holds no run.
    """
    settings = ledger.settings
    events, numbers = ledger.events(), ledger.rounds()
    state = str(ledger.status.get("state", "unknown"))
    if state == "running" and not ledger.is_locked:
        state = "lost"
    members, phase = _follow(events)
    records = [ledger.record(number) for number in numbers]
    fused = Counter(name for record in records if record.get("fused") for name in record["contributions"])
    rejected = Counter(rejection["name"] for record in records for rejection in record.get("rejected", ()))
    for name, member in members.items():
        member.fused, member.rejected = fused[name], rejected[name]
    if state != "running":
        phase = "ended"
        for member in members.values():
            if member.doing in ("trains", "judges"):
                member.doing = "idle"
    files = [path for path in ledger.folder.rglob("*") if path.is_file()]
    return RunStatus(
        folder=str(ledger.folder),
        state=state,
        reason=ledger.status.get("reason"),
        round=numbers[-1] if numbers else None,
        rounds=settings.get("rounds"),
        phase=phase,
        lost=sum(event["kind"] == "lost" for event in events),
        members=sorted(members.values(), key=lambda member: (not member.seen, member.name)),
        bytes=sum(path.stat().st_size for path in files),
        free_bytes=shutil.disk_usage(ledger.folder).free,
        bases=[number for number in numbers if (ledger.round_folder(number) / "base.safetensors").exists()],
    )


def _follow(events: list[dict[str, Any]]) -> tuple[dict[str, MemberStatus], str]:
    """Who took part and what they are doing, and what goes on, after all these events."""
    members: dict[str, MemberStatus] = {}
    phase = "waiting for members"

    def of(name: str) -> MemberStatus:
        return members.setdefault(name, MemberStatus(name))

    def all_do(doing: Mapping[str, str]) -> None:
        for member in members.values():
            member.doing = doing.get(member.name, "idle")

    for event in events:
        kind, name = event["kind"], event.get("name", "")
        phase = _phase(event) or phase
        if kind in ("began", "lost"):
            all_do({})
        elif kind == "members":
            for role in ("seen", "unseen"):
                for one in event[role]:
                    of(one).seen = role == "seen"
        elif kind == "round":
            missing = dict.fromkeys(event.get("missing", ()), "missing")
            for one in (*event["sampled"], *missing):
                of(one)
            all_do(missing | dict.fromkeys(event["sampled"], "trains"))
        elif kind == "evaluating":
            for one in event["names"]:
                of(one)
            all_do(dict.fromkeys(event["names"], "judges"))
        elif kind in _SAID:
            member = of(name)
            member.doing = _SAID[kind]
            if kind != "training":
                member.reason = event.get("reason", "")
            if kind in _HEARD or event.get("came"):
                member.last_heard = event["time"]
    return members, phase


def _phase(event: Mapping[str, Any]) -> str | None:
    """What goes on from an event on; None: what went on before."""
    match event["kind"]:
        case "began" | "lost":
            return "waiting for members"
        case "waiting":
            return f"waiting for {', '.join(event['absent'])}"
        case "round":
            return f"round {event['round']}: contributors train"
        case "evaluating":
            return f"base {event['round']} is judged"
        case "fused" | "kept" | "evaluated":
            return "between rounds"
    return None


def format_ago(then: float | None, now: float | None = None) -> str:
    """How long ago something was, as a person says it."""
    if then is None:
        return "never"
    seconds = max(0, round((time.time() if now is None else now) - then))
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _dashed(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key.replace("_", "-"): value for key, value in table.items()}
