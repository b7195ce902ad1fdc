"""A run's status as a table."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from coldfusion_fl.errors import count
from coldfusion_fl.runs.status import MemberStatus, RunStatus, format_ago

_COLOURS = {"training": "yellow", "evaluating": "yellow", "answered": "green", "rejected": "red", "missing": "red"}
_WORDS = {"missing": "not connected"}
_GIB = 1 << 30


def print_status(status: RunStatus, console: Console) -> None:
    """Print a run's status."""
    reason = f" ({status.reason})" if status.reason else ""
    done = _done(status)
    lost = f"; restarted {count(status.lost, 'time')}" if status.lost else ""
    console.print(f"{status.folder}: {status.state}{reason}, {done}; {status.phase}{lost}", markup=False)
    table = Table(box=None, padding=(0, 2), show_edge=False)
    for column in ("member", "connection", "activity", "fused", "rejected", "last heard", "reason"):
        table.add_column(column, justify="right" if column in ("fused", "rejected") else "left")
    for member in status.members:
        table.add_row(*_row(member))
    console.print(table)
    bases = count(len(status.bases), "base") if status.bases else "no base"
    console.print(
        f"Disk: {bases}, {status.bytes / _GIB:.2f} GiB in total, {status.free_bytes / _GIB:.1f} GiB free.",
        markup=False,
    )
    if status.database_bytes is not None:
        console.print(f"The server's database: {status.database_bytes / _GIB:.2f} GiB.", markup=False)
    for line in status.warnings:
        console.print(f"Warning: {line}", style="yellow", markup=False)


def _done(status: RunStatus) -> str:
    if status.round is None:
        return "no base yet"
    if status.rounds is None or status.round > status.rounds:  # `coldfusion fuse` added rounds
        return count(status.round, "round")
    return f"{status.round} of {status.rounds} rounds are done"


def _row(member: MemberStatus) -> tuple[str, ...]:
    presence = {True: "[green]online", False: "[red]offline", None: ""}[member.online]
    colour = _COLOURS.get(member.activity)
    words = _WORDS.get(member.activity, member.activity)
    activity = f"[{colour}]{words}" if colour else words
    return (
        escape(member.name),
        presence,
        activity if member.seen or member.activity != "idle" else "evaluates only",
        str(member.fused),
        str(member.rejected),
        format_ago(member.last_heard),
        escape(member.reason),
    )
