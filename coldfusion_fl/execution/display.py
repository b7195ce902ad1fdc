"""The progress of a run: one line for each important event, and in a terminal a live display below them."""

import functools
import os
import time
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from coldfusion_fl.errors import count
from coldfusion_fl.formatting import duration
from coldfusion_fl.runs import events
from coldfusion_fl.runs.events import Event

_BAR_WIDTH, _SHORTEST_BAR = 40, 10


@dataclass(frozen=True)
class _Node:
    """A row of the table: what a node does, and its numbers."""

    state: str = "waiting"
    steps: str = ""
    loss: float | None = None
    frozen: float | None = None


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
        self._reused: list[events.ScoresReused] = []
        self._nodes: dict[str, _Node] = {}

    def handle(self, event: Event) -> str | None:
        """Update the state by an event.

        Returns:
            The line to print; None: the event is not important enough.
        """
        return self._update(event)

    @functools.singledispatchmethod
    def _update(self, event: Event) -> str | None:
        """One function for each kind of event below; other kinds are not shown."""
        return None

    @_update.register
    def _(self, event: events.WaitingForNodes) -> str:
        self._begin(event.describe(), event)
        again = "; excluded ones are queried again every minute" if event.excluded else ""
        return f"{self._phase}; {count(event.connected, 'node')} connected{again}"

    @_update.register
    def _(self, event: events.ServerUnreachable) -> str:
        return f"{event.reason} The request is repeated for up to an hour."

    @_update.register
    def _(self, event: events.ServerReachable) -> str:
        return "The server answers again."

    @_update.register
    def _(self, event: events.NodesConnected) -> str:
        unseen = f" and {count(len(event.unseen), 'unseen task')} for evaluation only" if event.unseen else ""
        return f"{count(len(event.seen), 'contributor')} connected{unseen}{_not_taking_part(event)}"

    @_update.register
    def _(self, event: events.RoundStarted) -> str:
        self._round = event.round
        self._begin(f"round {self._round} of {self.rounds}: contributors train", event)
        self._nodes = {name: _Node() for name in event.sampled}
        paused = f"; paused, as they did not answer: {', '.join(event.paused)}" if event.paused else ""
        left = self._left_note(event.time)
        sampled = f"training on {', '.join(event.sampled)}"
        return f"round {self._round}/{self.rounds}: {sampled}{_not_taking_part(event)}{paused}{left}"

    @_update.register
    def _(self, event: events.TrainingStep) -> None:
        if event.round == self._round and event.name in self._nodes:
            self._nodes[event.name] = _Node("training", f"{event.step}/{event.steps}", event.loss)

    @_update.register
    def _(self, event: events.ContributionReceived) -> str:
        node = self._nodes[event.name] = _Node("done", loss=event.metrics.get("loss"))
        loss = "" if node.loss is None else f", loss {node.loss:.3f}"
        return f"  {event.name}: done{loss}"

    @_update.register
    def _(self, event: events.ContributionRejected) -> str:
        self._nodes[event.name] = _Node("rejected")
        return f"  {event.name}: REJECTED, {event.reason}"

    @_update.register
    def _(self, event: events.RoundFused) -> str:
        self._trainings.append(event.time - self._phase_began)
        spent = event.privacy
        loss = f"; privacy loss: ε = {spent.epsilon:g} at δ = {spent.delta:g}" if spent else ""
        return f"  fused {count(event.contributions, 'contribution')}{loss}"

    @_update.register
    def _(self, event: events.BaseKept) -> str:
        self._trainings.append(event.time - self._phase_began)
        return f"  the base is KEPT: {event.reason}"

    @_update.register
    def _(self, event: events.RunLost) -> str:
        self._begin("the run was lost; starting it again", event)
        where = "before the first base was saved" if event.round < 0 else f"after round {event.round}"
        return f"The run was interrupted {where} ({event.reason}). Restarting it."

    @_update.register
    def _(self, event: events.ContributorExcluded) -> str:
        return f"  {event.name} is EXCLUDED from the next rounds: {event.reason}"

    @_update.register
    def _(self, event: events.WorkerReplaced) -> str:
        return f"  {event.name}: its worker process was killed, perhaps for lack of memory. A new one repeats the work"

    @_update.register
    def _(self, event: events.TrackerFailed) -> str:
        return f"  {event.tracker} cannot log this run; the run goes on: {event.reason}"

    @_update.register
    def _(self, event: events.EvaluationStarted) -> None:
        self._begin(f"evaluating after round {event.round} on {count(len(event.names), 'node')}", event)
        self._nodes = {name: _Node("scoring") for name in event.names}
        self._reused = []

    @_update.register
    def _(self, event: events.ScoresReused) -> None:
        self._reused.append(event)

    @_update.register
    def _(self, event: events.ScoreReceived) -> None:
        self._nodes[event.name] = _Node("done", frozen=event.scores.get("frozen"))

    @_update.register
    def _(self, event: events.ScoreFailed) -> str:
        self._nodes[event.name] = _Node("rejected")
        return f"  {event.name}: could not evaluate, {event.reason}"

    @_update.register
    def _(self, event: events.EvaluationFinished) -> str:
        # The estimate is of evaluations that compute all scores, as the last one will.
        spared = sum(reused.seconds for reused in self._reused) / min(os.cpu_count() or 1, len(self._nodes) or 1)
        self._evaluations.append(event.time - self._phase_began + spared)
        scores = [node.frozen for node in self._nodes.values() if node.frozen is not None]
        mean = f"mean frozen score {sum(scores) / len(scores):.1f}" if scores else "no scores"
        return f"  after round {event.round}: {mean} over {count(len(scores), 'task')}{self._reused_note()}"

    def _reused_note(self) -> str:
        """A clause on the scores that are from an earlier run; empty if there are none."""
        if not self._reused:
            return ""
        number = count(sum(len(reused.modes) for reused in self._reused), "score")
        folders = ", ".join(sorted({reused.folder for reused in self._reused}))
        return f"; {number} from an earlier run, cached in {folders}"

    def _begin(self, phase: str, event: Event) -> None:
        self._phase, self._phase_began = phase, event.time

    def seconds_left(self, now: float) -> float | None:
        """Estimate the remaining seconds from the phases so far.

        None: the first round has not ended, or the estimate was too short.

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
        left -= now - self._phase_began
        return left if left > 0 else None

    def _left_note(self, now: float) -> str:
        left = self.seconds_left(now)
        return f"; about {duration(left)} left" if left is not None else ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        now = time.time()
        left = self.seconds_left(now)
        clock = f"{duration(now - self._began)} so far" + (f", about {duration(left)} left" if left is not None else "")
        yield Text(self._phase, style="bold", no_wrap=True, overflow="ellipsis")
        bar = Table.grid(padding=(0, 1))
        bar_width = min(_BAR_WIDTH, options.max_width - len(clock) - 1)
        done = ProgressBar(total=max(1, self.rounds), completed=len(self._trainings), width=bar_width)
        bar.add_row(*([done] if bar_width >= _SHORTEST_BAR else []), clock)
        yield bar
        if self._nodes:
            yield self._node_table()

    def _node_table(self) -> Table:
        table = Table(box=None, padding=(0, 1))
        table.add_column("task", overflow="ellipsis")  # the only column that is made narrower
        table.add_column("", no_wrap=True)
        for column in ("step", "loss", "frozen"):
            table.add_column(column, justify="right", no_wrap=True)
        colours = {"training": "yellow", "done": "green", "rejected": "red", "waiting": "dim", "scoring": "yellow"}
        for name, node in self._nodes.items():
            loss = "" if node.loss is None else f"{node.loss:.3f}"
            frozen = "" if node.frozen is None else f"{node.frozen:.1f}"
            table.add_row(escape(name), f"[{colours[node.state]}]{node.state}", node.steps, loss, frozen)
        return table


def _not_taking_part(event: events.NodesConnected | events.RoundStarted) -> str:
    """The names that take no part: those that are excluded, and those that are not connected."""
    kinds = {"excluded": event.excluded, "not connected": event.missing}
    return "".join(f"; {kind}: {', '.join(names)}" for kind, names in kinds.items() if names)


def plain_console() -> Console:
    """A console that shows texts as they are: it has no highlights, and `:cat:` in a name stays as it is.

    Where the output is not a terminal, it does not wrap lines of up to 160 characters. The terminal of a CI service is
    a file in the end, so it counts as none. Rich itself follows NO_COLOR, FORCE_COLOR and TERM=dumb.
    """
    is_file = bool(os.environ.get("CI")) and not os.environ.get("FORCE_COLOR")
    console = Console(highlight=False, emoji=False, force_terminal=False if is_file else None)
    return console if console.is_terminal else Console(highlight=False, emoji=False, force_terminal=False, width=160)


def is_live(console: Console) -> bool:
    """Whether a console can draw over what it has drawn, which a file with colours cannot."""
    return console.is_terminal and not console.is_dumb_terminal and console.file.isatty()
