"""The events of a run, one class a kind. A run folder has them in `progress.jsonl`, one line an event.

`RunStarted` → `NodesConnected` → for each round `RoundStarted`, `TrainingStep`, `ContributionReceived` or
`ContributionRejected`, `RoundFused` or `BaseKept` → for each evaluation `EvaluationStarted`, `ScoreReceived` or
`ScoreFailed`, `EvaluationFinished` → `RunFinished` or `RunFailed`.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from coldfusion_fl.errors import ErrorCode, RunFolderError
from coldfusion_fl.run.records import PrivacySpent


class _Event(BaseModel):
    """Base of the events.

    Attributes:
        time: when it happened, in seconds since 1970.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: float = Field(default_factory=time.time)


class RunStarted(_Event):
    """A process began to work on the run, for the first time or again."""

    kind: Literal["run-started"] = "run-started"


class WaitingForNodes(_Event):
    """The server waits for nodes that it knows by name.

    Attributes:
        connected: the number of nodes that are connected.
        missing: the names of those that are not.
    """

    kind: Literal["waiting-for-nodes"] = "waiting-for-nodes"
    connected: int
    missing: list[str]


class NodesConnected(_Event):
    """Enough nodes are connected, and the rounds begin.

    Attributes:
        seen: the names of the contributors.
        unseen: the names of the nodes that only evaluate.
        missing: the names that were waited for in vain.
        rounds: the number of rounds of the run.
    """

    kind: Literal["nodes-connected"] = "nodes-connected"
    seen: list[str]
    unseen: list[str] = []
    missing: list[str] = []
    rounds: int


class RoundStarted(_Event):
    """Contributors were sampled and sent the base.

    Attributes:
        round: the round.
        sampled: their names.
        missing: the names of contributors that are not connected.
    """

    kind: Literal["round-started"] = "round-started"
    round: int
    sampled: list[str]
    missing: list[str] = []


class TrainingStep(_Event):
    """The progress of a simulated contributor.

    Attributes:
        round: the round.
        name: the contributor.
        step: optimizer steps so far.
        steps: optimizer steps in all, unless the training stops early.
        loss: the mean loss of the last steps.
    """

    kind: Literal["training-step"] = "training-step"
    round: int
    name: str
    step: int
    steps: int
    loss: float


class ContributionReceived(_Event):
    """A contribution can be fused, unless the screening rejects it.

    Attributes:
        round: the round.
        name: the contributor.
        metrics: the numbers that it reported.
    """

    kind: Literal["contribution-received"] = "contribution-received"
    round: int
    name: str
    metrics: dict[str, float] = {}


class ContributionRejected(_Event):
    """A contribution cannot be fused, or did not arrive.

    Attributes:
        round: the round.
        name: the contributor.
        reason: a clause that says why.
        received: whether anything arrived.
    """

    kind: Literal["contribution-rejected"] = "contribution-rejected"
    round: int
    name: str
    reason: str
    received: bool = True


class ContributorExcluded(_Event):
    """A contributor or a node takes no part from now on.

    Attributes:
        name: the contributor, or `node-ID`.
        reason: a clause that says why.
    """

    kind: Literal["contributor-excluded"] = "contributor-excluded"
    name: str
    reason: str


class WorkerReplaced(_Event):
    """A worker process of a simulation ended unexpectedly, and a new one has begun to work.

    Attributes:
        name: the contributor that the new process works for first.
    """

    kind: Literal["worker-replaced"] = "worker-replaced"
    name: str


class RoundFused(_Event):
    """The round made a new base.

    Attributes:
        round: the round.
        contributions: the number of fused contributions.
        rejected: the number of rejected ones.
        privacy: the privacy loss so far, where the fusion is private.
    """

    kind: Literal["round-fused"] = "round-fused"
    round: int
    contributions: int
    rejected: int
    privacy: PrivacySpent | None = None


class BaseKept(_Event):
    """The round made no new base.

    Attributes:
        round: the round.
        contributions: the number of contributions that passed the screening.
        rejected: the number of rejected ones.
        reason: a clause that says why.
    """

    kind: Literal["base-kept"] = "base-kept"
    round: int
    contributions: int
    rejected: int
    reason: str


class EvaluationStarted(_Event):
    """The nodes were sent a base to evaluate.

    Attributes:
        round: the round that made the base.
        names: the nodes.
    """

    kind: Literal["evaluation-started"] = "evaluation-started"
    round: int
    names: list[str]


class ScoreReceived(_Event):
    """A node evaluated the base.

    Attributes:
        round: the round that made the base.
        name: the node.
        scores: in points, by mode; and `num-examples`.
    """

    kind: Literal["score-received"] = "score-received"
    round: int
    name: str
    scores: dict[str, float] = {}


class ScoreFailed(_Event):
    """A node did not evaluate the base.

    Attributes:
        round: the round that made the base.
        name: the node.
        reason: a clause that says why.
    """

    kind: Literal["score-failed"] = "score-failed"
    round: int
    name: str
    reason: str


class EvaluationFinished(_Event):
    """All nodes answered, or the time is over.

    Attributes:
        round: the round that made the base.
    """

    kind: Literal["evaluation-finished"] = "evaluation-finished"
    round: int


class ServerUnreachable(_Event):
    """The server of a federation does not answer.

    Attributes:
        reason: a sentence that says why.
    """

    kind: Literal["server-unreachable"] = "server-unreachable"
    reason: str


class ServerReachable(_Event):
    """The server of a federation answers again."""

    kind: Literal["server-reachable"] = "server-reachable"


class RunLost(_Event):
    """The process of the run ended early, and the run will be started again.

    Attributes:
        round: the last round that is saved; -1: none.
        reason: a clause that says why.
    """

    kind: Literal["run-lost"] = "run-lost"
    round: int
    reason: str


class RunFinished(_Event):
    """The run reached its last round and wrote the model."""

    kind: Literal["run-finished"] = "run-finished"


class RunFailed(_Event):
    """The run ended early.

    Attributes:
        reason: a sentence that says why.
    """

    kind: Literal["run-failed"] = "run-failed"
    reason: str


Event = Annotated[
    RunStarted
    | WaitingForNodes
    | NodesConnected
    | RoundStarted
    | TrainingStep
    | ContributionReceived
    | ContributionRejected
    | ContributorExcluded
    | WorkerReplaced
    | RoundFused
    | BaseKept
    | EvaluationStarted
    | ScoreReceived
    | ScoreFailed
    | EvaluationFinished
    | ServerUnreachable
    | ServerReachable
    | RunLost
    | RunFinished
    | RunFailed,
    Field(discriminator="kind"),
]

Emit = Callable[[Event], None]

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def format_event(event: Event) -> bytes:
    """An event as a line of JSON."""
    return _EVENT.dump_json(event) + b"\n"


def parse_event(line: bytes, source: Path) -> Event:
    """An event of a line of JSON.

    Args:
        line: the line.
        source: its file, for the error.

    Raises:
        RunFolderError: the line is not an event.
    """
    try:
        return _EVENT.validate_json(line)
    except ValidationError as wrong:
        found = line[:100].decode(errors="replace")
        raise RunFolderError(
            f"{source}: this line is not a valid event: '{found}' ({wrong.errors()[0]['msg']}). Restore the file, or "
            "start a new run.",
            ErrorCode.RUN_FOLDER_DAMAGED,
        ) from None
