"""The events of an evaluation of a base by the nodes."""

from typing import Literal

from pydantic import Field

from coldfusion_fl.runs.events.base import BaseEvent
from coldfusion_fl.runs.records import ReportedNumbers, ReportedText


class EvaluationStarted(BaseEvent):
    """The nodes were sent a base to evaluate.

    Attributes:
        round: the round that made the base.
        names: the nodes.
    """

    kind: Literal["evaluation-started"] = "evaluation-started"
    round: int
    names: list[str]


class ScoresReused(BaseEvent):
    """A simulated node did not compute scores of the first base, because an earlier run on its machine had.

    Attributes:
        round: the round that made the base: 0.
        name: the node.
        modes: the scores that are from an earlier run, such as `frozen`.
        folder: the folder of the cache.
        seconds: the time that it took to compute them.
    """

    kind: Literal["scores-reused"] = "scores-reused"
    round: int
    name: str
    modes: list[str]
    folder: str
    seconds: float = 0.0


class ScoreReceived(BaseEvent):
    """A node evaluated the base.

    Attributes:
        round: the round that made the base.
        name: the node.
        scores: in points, by mode; and `num-examples`.
    """

    kind: Literal["score-received"] = "score-received"
    round: int
    name: str
    scores: ReportedNumbers = Field(default_factory=dict)


class ScoreFailed(BaseEvent):
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


class EvaluationFinished(BaseEvent):
    """All nodes answered, or the time is over.

    Attributes:
        round: the round that made the base.
    """

    kind: Literal["evaluation-finished"] = "evaluation-finished"
    round: int
