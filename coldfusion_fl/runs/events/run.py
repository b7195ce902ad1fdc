"""The events of a whole run: its start and end, its server and its trackers."""

from typing import Literal

from pydantic import Field

from coldfusion_fl.runs.events.base import BaseEvent

# The version of the format of `progress.jsonl`. It rises only if a reader of the version before would be wrong.
FORMAT = 1


class RunStarted(BaseEvent):
    """A process began to work on the run, for the first time or again. The first line of a file is one of these.

    Attributes:
        format: the version of the format of the lines that follow.
    """

    kind: Literal["run-started"] = "run-started"
    format: int = Field(FORMAT, ge=1)


class ServerUnreachable(BaseEvent):
    """The server of a federation does not answer.

    Attributes:
        reason: a sentence that says why.
    """

    kind: Literal["server-unreachable"] = "server-unreachable"
    reason: str


class ServerReachable(BaseEvent):
    """The server of a federation answers again."""

    kind: Literal["server-reachable"] = "server-reachable"


class TrackerFailed(BaseEvent):
    """A tracker, such as MLflow, could not log a round. The run goes on, and the tracker is tried again later.

    Attributes:
        tracker: the name of the tracker.
        reason: a sentence that says why.
    """

    kind: Literal["tracker-failed"] = "tracker-failed"
    tracker: str
    reason: str


class RunLost(BaseEvent):
    """The process of the run ended early, and the run will be started again.

    Attributes:
        round: the last round that is saved; -1: none.
        reason: a clause that says why.
    """

    kind: Literal["run-lost"] = "run-lost"
    round: int
    reason: str


class RunFinished(BaseEvent):
    """The run reached its last round and wrote the model."""

    kind: Literal["run-finished"] = "run-finished"


class RunFailed(BaseEvent):
    """The run ended early.

    Attributes:
        reason: a sentence that says why.
    """

    kind: Literal["run-failed"] = "run-failed"
    reason: str
