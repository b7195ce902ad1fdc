"""Which contributor is behind which node."""

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from logging import INFO, WARNING

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.common import log
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from coldfusion_fl.errors import RunError
from coldfusion_fl.sanitize import sanitize
from coldfusion_fl.versions import format_versions

from .stragglers import UNREACHABLE

# The in-memory grid of a simulation, and it alone, says how often it may be asked; a deployment's loop asks every 3 s.
_POLL = 3.0
# A node that says nothing for so long is asked again; while nobody has answered yet, it is waited for.
_ANSWER = 60.0
# Newcomers may not hold up a round for longer; a later answer counts from the next round on.
_COURTESY = 6.0
_REMIND = 30.0
# A node that was left out may have been mended: it is asked again so often.
_AGAIN = 60.0
# A worker of a simulation may have been killed, by lack of memory; one that fails so often in a row will not start.
_TRIES = 3
_LONGEST_NAME = 100


@dataclass(frozen=True)
class Member:
    """A node, by what it answered to the roll call.

    Attributes:
        node_id: Flower's id of the node; another one in each run.
        name: the contributor's name.
        seen: whether it contributes; if not, it only judges the bases.
        nodes: in a simulation, how many nodes there are in all; None elsewhere.
    """

    node_id: int
    name: str
    seen: bool = True
    nodes: int | None = None


def simulated_nodes(members: Mapping[str, Member]) -> int | None:
    """How many nodes this simulation has; None in a deployment, or where nobody said."""
    return next((member.nodes for member in members.values() if member.nodes), None)


def exchange_messages(
    grid: Grid, messages: Iterable[Message], timeout: float, *, in_order: bool = False
) -> Iterator[Message]:
    """Send messages and yield the replies as they arrive, one in memory at a time.

    A reply is whose message it is asked for by. Flower does not check what a reply says of itself, and one that says it
    is to another message is dropped.

    Args:
        grid: Flower's grid.
        messages: one a node.
        timeout: seconds, from when all are sent, after which the replies that are still missing are given up. There is
            a last look then: to fetch one reply may take long, and those that came meanwhile are in time.
        in_order: whether the workers of a simulation are to begin with the first messages. They take those that they
            find together in an order of their own, so each look at what has arrived sends one.
    """
    unsent = list(messages)
    waiting: list[str] = []
    at_once = 1 if in_order and in_simulation(grid) else len(unsent)
    deadline = math.inf
    is_last = False
    while unsent or (waiting and not is_last):
        if unsent:
            waiting += [message_id for message_id in grid.push_messages(unsent[:at_once]) if message_id]
            del unsent[:at_once]
            deadline = math.inf if unsent else time.monotonic() + timeout
        is_last = time.monotonic() >= deadline
        for message_id in list(waiting):
            # Asked for one by one: Flower would give all that are there at once.
            replies = list(grid.pull_messages([message_id]))
            if replies:
                waiting.remove(message_id)
            while replies:
                reply = replies.pop()
                if reply.metadata.reply_to_message_id == message_id:
                    yield reply
                else:
                    log(WARNING, "The reply to message %s says that it is to another. It is dropped.", message_id)
                del reply  # while the next one comes, memory need not hold this one
        if unsent or (waiting and not is_last):
            time.sleep(poll_interval(grid))


def poll_interval(grid: Grid) -> float:
    """Seconds between two looks at what has arrived."""
    return float(getattr(grid, "pull_interval", _POLL))


def in_simulation(grid: Grid) -> bool:
    """Whether the nodes are simulated: no others will come, and what they say is said by this machine."""
    return hasattr(grid, "pull_interval")


class NodeRegistry:
    """Asks nodes for their names.

    A node whose client does not know the question is a contributor called `node-ID`; one that says it has a problem, or
    has other versions of this software than the server, is left out.

    Args:
        configrecord_key: the key of the ConfigRecord in the answers.
        node_names: the names that the server knows nodes by, by node id: who is not among them, or says another name,
            is left out. None: nodes say who they are.
        tell: told the name of each node that is left out, and why.
    """

    def __init__(
        self,
        configrecord_key: str,
        node_names: Callable[[], Mapping[int, str]] | None = None,
        tell: Callable[[str, str], None] = lambda name, reason: None,
    ) -> None:
        self._key = configrecord_key
        self._names = node_names
        self._tell = tell
        self._known: dict[int, Member | None] = {}
        self._gone: dict[int, Member] = {}
        self._asked: dict[int, tuple[str, float]] = {}
        self._failures: Counter[int] = Counter()
        self._problems: dict[int, tuple[str, float]] = {}

    def present(self, grid: Grid) -> dict[str, Member]:
        """The members that are connected now, by name; nodes that are new are asked first.

        A node that was away counts as what it was, and is asked again: its answer takes the start of a process, and may
        not cost it another round.

        Two nodes of one name would be one contributor with two votes: the first to join stays.

        Raises:
            RunError: the workers of a simulation do not start.
        """
        there = set(grid.get_node_ids())
        self._gone |= {node: member for node, member in self._known.items() if member and node not in there}
        self._known = {node: member for node, member in self._known.items() if node in there}
        self._asked = {node: asked for node, asked in self._asked.items() if node in there}
        back = sorted(there & self._gone.keys())
        self._known |= {node: self._gone.pop(node) for node in back}
        new = sorted(there - self._known.keys() - self._asked.keys())
        self._problems = {node: problem for node, problem in self._problems.items() if node in there}
        now = time.monotonic()
        again = sorted(
            node
            for node, (_, since) in self._problems.items()
            if now - since > _AGAIN and node not in self._asked and not in_simulation(grid)
        )
        self._ask(grid, [*back, *new, *again])
        patience = 0.0 if not new else _COURTESY if self._known else _ANSWER
        self._listen(grid, time.monotonic() + patience)
        members: dict[str, Member] = {}
        for member in filter(None, self._known.values()):
            first = members.setdefault(member.name, member)
            if first is not member:
                log(
                    WARNING,
                    "Two nodes say they are '%s'; the second is left out. Give each its own name.",
                    member.name,
                )
        return members

    def wait(
        self,
        grid: Grid,
        nodes: int,
        names: Collection[str],
        timeout: float,
        tell: Callable[[int, list[str]], None],
    ) -> dict[str, Member]:
        """The members, as soon as enough of them are there, or when nobody else can come, or the time is over.

        Args:
            grid: Flower's grid.
            nodes: how many are to be there.
            names: who is to be among them.
            timeout: seconds that they are waited for at most.
            tell: told how many are there and who of the names is not, at first and whenever that changes.

        Raises:
            RunError: the workers of a simulation do not start.
        """
        log(INFO, "Asking the nodes for their names. One whose client does not know the question logs an error; it is")
        log(INFO, "harmless, and the node is called node-ID.")
        deadline = time.monotonic() + timeout
        reminded = 0.0
        told: tuple[int, list[str]] | None = None
        while True:
            members = self.present(grid)
            absent = sorted(set(names) - members.keys())
            simulated = simulated_nodes(members)
            complete = simulated is not None and len(self._known) >= simulated
            if (len(members) >= nodes and not absent) or complete or time.monotonic() > deadline:
                return members
            if absent and told != (len(members), absent):
                told = (len(members), absent)
                tell(*told)
            if time.monotonic() - reminded > _REMIND:
                reminded = time.monotonic()
                log(INFO, "Waiting for nodes: %d of %d are there.", len(members), nodes)
            time.sleep(poll_interval(grid))

    def name_of(self, node_id: int) -> str:
        """The name of a node."""
        member = self._known.get(node_id)
        return member.name if member else f"node-{node_id}"

    def _ask(self, grid: Grid, nodes: Iterable[int]) -> None:
        for node in nodes:
            question = Message(RecordDict(), dst_node_id=node, message_type=MessageType.QUERY)
            for message_id in grid.push_messages([question]):
                if message_id:
                    self._asked[node] = (message_id, time.monotonic())

    def _listen(self, grid: Grid, deadline: float) -> None:
        """Take the answers that are there, or come before the deadline."""
        while self._asked:
            for node, (message_id, since) in sorted(self._asked.items()):
                for reply in grid.pull_messages([message_id]):
                    del self._asked[node]
                    if not (reply.has_error() and reply.error.code in UNREACHABLE):
                        self._known[node] = self._member(node, reply, in_simulation(grid))
                    elif reply.error.code == ErrorCode.UNKNOWN and in_simulation(grid):
                        self._count_failure(node, reply.error.reason or "")
                    break
                else:
                    if time.monotonic() - since > _ANSWER:
                        del self._asked[node]
            if time.monotonic() >= deadline:
                return
            if self._asked:
                time.sleep(poll_interval(grid))

    def _count_failure(self, node: int, reason: str) -> None:
        self._failures[node] += 1
        if self._failures[node] == _TRIES:
            *_, last = ["", *reason.splitlines()]
            raise RunError(
                f"the workers of this simulation cannot start: {last}\nThe run's log tells more. Is what they need "
                "installed for the Python that runs this, and is there enough memory?"
            )

    def _member(self, node: int, reply: Message, is_simulated: bool) -> Member | None:
        answer = (None if reply.has_error() else reply.content.config_records.get(self._key)) or ConfigRecord()
        name = sanitize(answer.get("name", ""))[:_LONGEST_NAME]
        told, _ = self._problems.pop(node, ("", 0.0))
        if problem := self._problem(node, name, answer):
            self._problems[node] = problem, time.monotonic()
            if problem != told:
                log(WARNING, "Node %d%s is left out: %s", node, f" ('{name}')" if name else "", problem)
                self._tell(name or f"node-{node}", problem.rstrip("."))
            return None
        simulated = answer.get("simulated-nodes")
        return Member(
            node,
            name=(self._names() if self._names else {}).get(node) or name or f"node-{node}",
            seen=bool(answer.get("seen", True)),
            nodes=simulated if is_simulated and isinstance(simulated, int) else None,
        )

    def _problem(self, node: int, name: str, answer: ConfigRecord) -> str:
        """Why a node cannot take part; empty where it can."""
        if "problem" in answer:
            return sanitize(answer["problem"])
        theirs, ours = sanitize(answer.get("versions", "")), format_versions()
        if theirs and theirs != ours:
            return f"it has {theirs}; this server has {ours}. Both must have the same."
        if self._names is not None:
            known = self._names().get(node)
            if known is None:
                return "its key is not that of a member."
            if name and name != known:
                return f"its key is that of '{known}', under whose name it may join."
        return ""
