"""Which contributor is behind which node."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from logging import INFO, WARNING

from flwr.app import Message, MessageType, RecordDict
from flwr.common import log
from flwr.serverapp import Grid

# The in-memory grid of a simulation says how often it may be asked; the deployment's own loop asks every 3 s.
_POLL = 3.0
# A node that is connected but says nothing may not hold up a round; it is asked again in the next.
_ANSWER = 60.0
_REMIND = 30.0


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


def exchange(grid: Grid, messages: Iterable[Message], timeout: float) -> Iterator[Message]:
    """Send messages and yield the replies one at a time as they arrive.

    Args:
        grid: Flower's grid.
        messages: one a node.
        timeout: seconds after which the replies that are still missing are given up.
    """
    waiting = {message_id for message_id in grid.push_messages(messages) if message_id}
    pause = getattr(grid, "pull_interval", _POLL)
    deadline = time.monotonic() + timeout
    while waiting and time.monotonic() < deadline:
        for reply in grid.pull_messages(waiting):
            waiting.discard(reply.metadata.reply_to_message_id)
            yield reply
        if waiting:
            time.sleep(pause)


class RollCall:
    """Asks nodes for their names.

    A node whose client does not know the question is a contributor called `node-ID`; one that says it has a problem is
    left out.

    Args:
        configrecord_key: the key of the ConfigRecord in the answers.
    """

    def __init__(self, configrecord_key: str) -> None:
        self._key = configrecord_key
        self._known: dict[int, Member | None] = {}

    def present(self, grid: Grid) -> dict[str, Member]:
        """The members that are connected now, by name; nodes that are new are asked first.

        Two nodes of one name would be one contributor with two votes: the first to join stays.
        """
        there = set(grid.get_node_ids())
        self._known = {node: member for node, member in self._known.items() if node in there}
        new = sorted(there - self._known.keys())
        questions = [Message(RecordDict(), dst_node_id=node, message_type=MessageType.QUERY) for node in new]
        answers = {reply.metadata.src_node_id: reply for reply in exchange(grid, questions, _ANSWER)}
        for node in sorted(answers):
            self._known[node] = self._member(answers[node])
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

    def wait(self, grid: Grid, nodes: int, timeout: float) -> dict[str, Member]:
        """The members, as soon as there are so many, or when nobody else can come, or the time is over."""
        deadline = time.monotonic() + timeout
        reminded = 0.0
        while True:
            members = self.present(grid)
            simulated = simulated_nodes(members)
            complete = simulated is not None and len(self._known) >= simulated
            if len(members) >= nodes or complete or time.monotonic() > deadline:
                return members
            if time.monotonic() - reminded > _REMIND:
                reminded = time.monotonic()
                log(INFO, "Waiting for nodes: %d of %d are there.", len(members), nodes)
            time.sleep(getattr(grid, "pull_interval", _POLL))

    def name_of(self, node_id: int) -> str:
        """The name of a node."""
        member = self._known.get(node_id)
        return member.name if member else f"node-{node_id}"

    def _member(self, reply: Message) -> Member | None:
        node = reply.metadata.src_node_id
        answer = None if reply.has_error() else reply.content.config_records.get(self._key)
        if answer is None:
            return Member(node, f"node-{node}")
        if "problem" in answer:
            log(WARNING, "Node %d is left out: %s", node, answer["problem"])
            return None
        simulated = answer.get("simulated-nodes")
        return Member(
            node,
            name=str(answer.get("name", f"node-{node}")),
            seen=bool(answer.get("seen", True)),
            nodes=int(str(simulated)) if simulated else None,
        )
