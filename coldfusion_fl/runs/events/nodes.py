"""The events of the nodes, outside of their answers."""

from typing import Literal

from pydantic import Field

from coldfusion_fl.runs.events.base import BaseEvent
from coldfusion_fl.runs.records import ReportedText


class WaitingForNodes(BaseEvent):
    """The server waits for nodes that it knows by name.

    Attributes:
        connected: the number of nodes that are connected and can take part.
        missing: the names of those that are not connected.
        excluded: the names of those that are connected and cannot take part. They are queried again every minute.
    """

    kind: Literal["waiting-for-nodes"] = "waiting-for-nodes"
    connected: int
    missing: list[str]
    excluded: list[str] = Field(default_factory=list)

    def describe(self) -> str:
        """A clause that says what the server waits for."""
        return f"waiting for {', '.join([*self.missing, *(f'{name} (excluded)' for name in self.excluded)])}"


class NodesConnected(BaseEvent):
    """Enough nodes are connected, and the rounds begin.

    Attributes:
        seen: the names of the contributors.
        unseen: the names of the nodes that only evaluate.
        missing: the names that were waited for in vain, of nodes that are not connected.
        excluded: the names of nodes that are connected and cannot take part, each with a `ContributorExcluded` before.
        rounds: the number of rounds of the run.
    """

    kind: Literal["nodes-connected"] = "nodes-connected"
    seen: list[str]
    unseen: list[str] = Field(default_factory=list)
    missing: list[str] = Field(default_factory=list)
    excluded: list[str] = Field(default_factory=list)
    rounds: int


class ContributorExcluded(BaseEvent):
    """A contributor or a node takes no part from now on.

    Attributes:
        name: the contributor, or `node-ID`.
        reason: a clause that says why.
        received: whether the reason follows from an answer of its node, which has just arrived.
    """

    kind: Literal["contributor-excluded"] = "contributor-excluded"
    name: str
    reason: ReportedText
    received: bool = False


class WorkerReplaced(BaseEvent):
    """A worker process of a simulation ended unexpectedly, and a new one has begun to work.

    Attributes:
        name: the contributor that the new process works for first.
    """

    kind: Literal["worker-replaced"] = "worker-replaced"
    name: str
