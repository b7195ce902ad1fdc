"""Which contributor is behind which node."""

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from logging import INFO, WARNING
from typing import Any

from flwr.common import log
from flwr.serverapp import Grid

from .messaging import in_simulation, poll_interval

_LOG_INTERVAL = 30.0  # seconds
_UNNAMED = re.compile(r"node-\d+")


@dataclass(frozen=True)
class Member:
    """A node that can take part.

    Attributes:
        node_id: Flower's ID of the node; in a simulation it is another one in each run.
        name: the contributor's name.
        seen: whether it contributes; if not, it only evaluates the bases.
        simulated_nodes: in a simulation, the number of all nodes; None elsewhere, and where it is not known.
    """

    node_id: int
    name: str
    seen: bool = True
    simulated_nodes: int | None = None


def simulated_nodes(members: Mapping[str, Member]) -> int | None:
    """The number of nodes of this simulation; None in a deployment, or where it is not known."""
    return next((member.simulated_nodes for member in members.values() if member.simulated_nodes), None)


def unnamed(node_id: int) -> str:
    """The name of a node that has no other one."""
    return f"node-{node_id}"


def is_unnamed(name: str) -> bool:
    """Whether this is the name of a node that has no other one."""
    return bool(_UNNAMED.fullmatch(name))


class NodeRegistry:
    """Knows which nodes are connected, without a message to them.

    A node is called `node-ID` until its name is known.
    """

    def __init__(self) -> None:
        self._names: dict[int, str] = {}

    def begin(self, timeout: float | None, config: Mapping[str, Any]) -> None:
        """Prepare for a run; a registry that queries no nodes needs nothing.

        Args:
            timeout: seconds of a round; None: no limit.
            config: the configuration that the train messages of the run have.
        """

    def admit(self, members: Iterable[Member]) -> None:
        """Take nodes as what they are known to be, without a message to them."""
        self._names |= {member.node_id: member.name for member in members}

    def connected_nodes(self, grid: Grid) -> dict[str, Member]:
        """The members that are connected now, by name."""
        nodes = sorted(grid.get_node_ids())
        # All nodes of a simulation are there from the start.
        simulated = len(nodes) if in_simulation(grid) else None
        members = (Member(node, self.name_of(node), simulated_nodes=simulated) for node in nodes)
        return {member.name: member for member in members}

    @property
    def excluded(self) -> dict[str, str]:
        """The connected nodes that cannot take part, by name, with the reason. Without queries there are none."""
        return {}

    def name_of(self, node_id: int) -> str:
        """The name of a node; `node-ID` where it is not known."""
        return self._names.get(node_id, unnamed(node_id))

    def learn_name(self, node_id: int, name: str) -> bool:
        """Note the name that a node reported. A node keeps its first name, and no two nodes have the same.

        Returns:
            Whether the node is called so.
        """
        if node_id not in self._names and (name in self._names.values() or is_unnamed(name)):
            log(WARNING, "Node %d reported the name '%s', which another node has.", node_id, name)
            return False
        return self._names.setdefault(node_id, name) == name

    def wait_for_nodes(
        self,
        grid: Grid,
        number: int,
        names: Collection[str],
        timeout: float,
        on_waiting: Callable[[int, list[str], list[str]], None],
    ) -> dict[str, Member]:
        """The connected members, once enough are connected, no others can connect, or the time is over.

        Args:
            grid: Flower's grid.
            number: the number of members to wait for.
            names: members that must be among them.
            timeout: seconds.
            on_waiting: called whenever one of these changes: the number of members, the names among `names` that are
                not connected, and those that are connected and excluded.

        Raises:
            RunError: the workers of a simulation do not start.
        """
        self._announce_wait()
        # A simulation says how many nodes it has, so the wait ends when all have answered. In a deployment only the
        # time tells that nobody else will come.
        deadline = time.monotonic() + timeout
        last_log = 0.0
        reported: tuple[int, list[str], list[str]] | None = None
        while True:
            members = self.connected_nodes(grid)
            awaited, excluded = set(names) - members.keys(), self.excluded
            is_enough = len(members) >= number and not awaited
            if is_enough or self._is_complete(members) or time.monotonic() > deadline:
                return members
            waiting = (len(members), sorted(awaited - excluded.keys()), sorted(awaited & excluded.keys()))
            if awaited and reported != waiting:
                reported = waiting
                on_waiting(*waiting)
            if time.monotonic() - last_log > _LOG_INTERVAL:
                last_log = time.monotonic()
                left_out = f"; excluded: {len(excluded)}" if excluded else ""
                log(INFO, "Waiting for nodes: %d of %d are connected%s.", len(members), number, left_out)
            time.sleep(poll_interval(grid))

    def _announce_wait(self) -> None:
        """Log what happens while nodes are waited for; nothing is special here."""

    def _is_complete(self, members: Mapping[str, Member]) -> bool:
        """Whether no other node can connect."""
        return simulated_nodes(members) is not None
