"""The progress of a run: a live display in a terminal, or one line for each important event."""

import time
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from coldfusion_fl.errors import count


class Display:
    """Keeps the state of a run, from its events, and renders it with Rich.

    Args:
        rounds: the number of rounds of the run.
    """

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds
        self._began = time.time()
        self._round = 0
        self._phase = "starting"
        self._phase_began = self._began
        self._trainings: list[float] = []
        self._evaluations: list[float] = []
        self._nodes: dict[str, dict[str, Any]] = {}
        self._history: list[str] = []

    def handle(self, event: dict[str, Any]) -> str | None:
        """Update the state by an event.

        Args:
            event: the event; kinds that the display does not know are ignored.

        Returns:
            The line to print where there is no live display; None: the event is not important enough.
        """
        handler = getattr(self, f"_on_{event['kind'].replace('-', '_')}", None)
        line: str | None = handler(event) if handler else None
        if line:
            self._history = [*self._history, line][-6:]
        return line

    def _on_waiting(self, event: dict[str, Any]) -> str:
        self._begin(f"waiting for {', '.join(event['absent'])}", event)
        return f"{self._phase}; {count(event['there'], 'node')} connected"

    def _on_away(self, event: dict[str, Any]) -> str:
        return f"{event['reason']} The request is repeated for up to an hour."

    def _on_back(self, _: dict[str, Any]) -> str:
        return "The server answers again."

    def _on_members(self, event: dict[str, Any]) -> str:
        unseen = f" and {count(len(event['unseen']), 'unseen task')} for evaluation only" if event["unseen"] else ""
        absent = f"; not connected: {', '.join(event['absent'])}" if event.get("absent") else ""
        return f"{count(len(event['seen']), 'contributor')} connected{unseen}{absent}"

    def _on_round(self, event: dict[str, Any]) -> str:
        self._round = event["round"]
        self._begin(f"round {self._round} of {self.rounds}: contributors train", event)
        self._nodes = {name: {"state": "waiting"} for name in event["sampled"]}
        missing = f"; not connected: {', '.join(event['missing'])}" if event.get("missing") else ""
        left = self._left_note(event["time"])
        return f"round {self._round}/{self.rounds}: training on {', '.join(event['sampled'])}{missing}{left}"

    def _on_training(self, event: dict[str, Any]) -> None:
        if event["round"] == self._round and event["name"] in self._nodes:
            self._nodes[event["name"]] = {**event, "state": "training"}

    def _on_received(self, event: dict[str, Any]) -> str:
        self._nodes[event["name"]] = {**event, "state": "done"}
        loss = f", loss {event['loss']:.3f}" if isinstance(event.get("loss"), float) else ""
        return f"  {event['name']}: done{loss}"

    def _on_rejected(self, event: dict[str, Any]) -> str:
        self._nodes[event["name"]] = {**event, "state": "rejected"}
        return f"  {event['name']}: REJECTED, {event['reason']}"

    def _on_fused(self, event: dict[str, Any]) -> str:
        self._trainings.append(event["time"] - self._phase_began)
        spent = event.get("privacy")
        budget = f"; privacy spent: ε = {spent['epsilon']:g} at δ = {spent['delta']:g}" if spent else ""
        return f"  fused {count(event['contributions'], 'contribution')}{budget}"

    def _on_kept(self, event: dict[str, Any]) -> str:
        self._trainings.append(event["time"] - self._phase_began)
        return f"  the base is KEPT: {event['reason']}"

    def _on_lost(self, event: dict[str, Any]) -> str:
        self._begin("the run was lost; starting it again", event)
        return f"The run was LOST after round {event['round']}: {event['reason']}. It is started again."

    def _on_excluded(self, event: dict[str, Any]) -> str:
        return f"  {event['name']} is EXCLUDED from the next rounds: {event['reason']}"

    def _on_evaluating(self, event: dict[str, Any]) -> None:
        self._begin(f"evaluating base {event['round']} on {count(len(event['names']), 'node')}", event)
        self._nodes = {name: {"state": "waiting"} for name in event["names"]}

    def _on_score(self, event: dict[str, Any]) -> None:
        self._nodes[event["name"]] = {**event, "state": "done"}

    def _on_unscored(self, event: dict[str, Any]) -> str:
        self._nodes[event["name"]] = {**event, "state": "rejected"}
        return f"  {event['name']}: could not evaluate, {event['reason']}"

    def _on_evaluated(self, event: dict[str, Any]) -> str:
        self._evaluations.append(event["time"] - self._phase_began)
        scores = [node["frozen"] for node in self._nodes.values() if "frozen" in node]
        mean = f"mean frozen score {sum(scores) / len(scores):.1f}" if scores else "no scores"
        return f"  base {event['round']}: {mean} over {count(len(scores), 'task')}"

    def _begin(self, phase: str, event: dict[str, Any]) -> None:
        self._phase, self._phase_began = phase, event["time"]

    def seconds_left(self, now: float) -> float | None:
        """Estimate the remaining seconds from the phases so far; None before the first round has ended.

        Args:
            now: the time, in seconds since the epoch.
        """
        if not self._trainings:
            return None
        done = len(self._trainings)
        left = (self.rounds - done) * sum(self._trainings) / done
        if self._evaluations:
            # The first and the last evaluation include few-shot scores, and so take longer than those between.
            left += max(0, self.rounds - 1 - done) * sum(self._evaluations[1:]) / done + self._evaluations[0]
        return max(0.0, left - (now - self._phase_began))

    def _left_note(self, now: float) -> str:
        left = self.seconds_left(now)
        return f"; about {format_duration(left)} left" if left is not None else ""

    def __rich__(self) -> RenderableType:
        now = time.time()
        bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[time]}"),
            expand=False,
        )
        left = self.seconds_left(now)
        clock = f"{format_duration(now - self._began)} so far" + (
            f", about {format_duration(left)} left" if left is not None else ""
        )
        bar.add_task(self._phase, total=max(1, self.rounds), completed=len(self._trainings), time=clock)
        nodes = [self._node_table()] if self._nodes else []
        return Group(bar, *nodes, Text("\n".join(self._history), style="dim"))

    def _node_table(self) -> Table:
        table = Table(box=None, padding=(0, 2))
        for column in ("contributor", "", "step", "loss", "frozen"):
            table.add_column(column, justify="left" if column in ("contributor", "") else "right")
        colours = {"training": "yellow", "done": "green", "rejected": "red", "waiting": "dim"}
        for name, node in self._nodes.items():
            step = f"{node['step']}/{node['steps']}" if node["state"] == "training" else ""
            loss = f"{node['loss']:.3f}" if isinstance(node.get("loss"), float) else ""
            frozen = f"{node['frozen']:.1f}" if "frozen" in node else ""
            state = node["state"]
            table.add_row(escape(name), f"[{colours[state]}]{state}", step, loss, frozen)
        return table


def format_duration(seconds: float) -> str:
    """Format a duration, such as `1 h 5 min` or `12 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def plain_console() -> Console:
    """A console that does not highlight; where the output is not a terminal, it does not wrap lines of up to 160."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)
