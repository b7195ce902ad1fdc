"""The events of a run, one class a kind. A run folder has them in `progress.jsonl`, one line an event.

A line is a JSON object in UTF-8 and ends with a line break. Its `kind` names its class, which has the other keys.
`RunStarted` → `NodesConnected` → for each round `RoundStarted`, `TrainingStep`, `ContributionReceived` or
`ContributionRejected`, `RoundFused` or `BaseKept` → for each evaluation `EvaluationStarted`, `ScoreReceived` or
`ScoreFailed`, `EvaluationFinished` → `RunFinished` or `RunFailed`. A run that resumes adds its events to the file, and
repeats those of the round that was interrupted.

The format is stable. `RunStarted.format` is its version. Within one version:

- No kind and no key is removed or renamed, and the type and the meaning of a key stay the same.
- New kinds and new keys may be added. A reader ignores the kinds and the keys that it does not know.
- A key with a default may be missing: a file may be older than the key.

The reader of this package, `progress.ProgressLog`, follows these rules, and rejects a file with a higher version.
"""

import time
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from coldfusion_fl.runs.records import MeasuredNumber, PrivacySpent, ReportedNumbers, ReportedText

# The version of the format of `progress.jsonl`. It rises only if a reader of the version before would be wrong.
FORMAT = 1


class _Event(BaseModel):
    """Base of the events.

    Attributes:
        time: when it happened, in seconds since 1970.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    time: float = Field(default_factory=time.time)


class RunStarted(_Event):
    """A process began to work on the run, for the first time or again. The first line of a file is one of these.

    Attributes:
        format: the version of the format of the lines that follow.
    """

    kind: Literal["run-started"] = "run-started"
    format: int = Field(FORMAT, ge=1)


class WaitingForNodes(_Event):
    """The server waits for nodes that it knows by name.

    Attributes:
        connected: the number of nodes that are connected and can take part.
        missing: the names of those that are not connected.
        excluded: the names of those that are connected and cannot take part. They are queried again every minute.
    """

    kind: Literal["waiting-for-nodes"] = "waiting-for-nodes"
    connected: int
    missing: list[str]
    excluded: list[str] = []


class NodesConnected(_Event):
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
    unseen: list[str] = []
    missing: list[str] = []
    excluded: list[str] = []
    rounds: int


class RoundStarted(_Event):
    """Contributors were sampled and sent the base.

    Attributes:
        round: the round.
        sampled: their names.
        missing: the names of contributors that are not connected.
        paused: the names of contributors that were not sampled, because they had not answered in time.
        excluded: the names of contributors and nodes that are connected and take no part.
    """

    kind: Literal["round-started"] = "round-started"
    round: int
    sampled: list[str]
    missing: list[str] = []
    paused: list[str] = []
    excluded: list[str] = []


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
    loss: MeasuredNumber


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
    metrics: ReportedNumbers = {}


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
    reason: ReportedText
    received: bool = True


class ContributorExcluded(_Event):
    """A contributor or a node takes no part from now on.

    Attributes:
        name: the contributor, or `node-ID`.
        reason: a clause that says why.
    """

    kind: Literal["contributor-excluded"] = "contributor-excluded"
    name: str
    reason: ReportedText


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


class RoundUndone(_Event):
    """A person took back the last round, which `coldfusion fuse` had added. Its files are in another folder of the run.

    Attributes:
        round: the round.
        folder: where it is now, in the run folder.
    """

    kind: Literal["round-undone"] = "round-undone"
    round: int
    folder: str


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
    scores: ReportedNumbers = {}


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
    reason: ReportedText


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


class TrackerFailed(_Event):
    """A tracker, such as MLflow, could not log a round. The run goes on, and the tracker is tried again later.

    Attributes:
        tracker: the name of the tracker.
        reason: a sentence that says why.
    """

    kind: Literal["tracker-failed"] = "tracker-failed"
    tracker: str
    reason: str


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
    RunStarted | WaitingForNodes | NodesConnected | RoundStarted | TrainingStep | ContributionReceived
    | ContributionRejected | ContributorExcluded | WorkerReplaced | RoundFused | BaseKept | RoundUndone
    | EvaluationStarted | ScoreReceived | ScoreFailed | EvaluationFinished | ServerUnreachable | ServerReachable
    | TrackerFailed | RunLost | RunFinished | RunFailed,
    Field(discriminator="kind"),
]  # fmt: skip

Emit = Callable[[Event], None]
