"""The events of a round: its contributors, their contributions and its new base."""

from typing import Literal

from pydantic import Field

from coldfusion_fl.runs.events.base import BaseEvent
from coldfusion_fl.runs.records import MeasuredNumber, PrivacySpent, ReportedNumbers, ReportedText


class RoundStarted(BaseEvent):
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
    missing: list[str] = Field(default_factory=list)
    paused: list[str] = Field(default_factory=list)
    excluded: list[str] = Field(default_factory=list)


class TrainingStep(BaseEvent):
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


class ContributionReceived(BaseEvent):
    """A contribution can be fused, unless the screening rejects it.

    Attributes:
        round: the round.
        name: the contributor.
        metrics: the numbers that it reported.
    """

    kind: Literal["contribution-received"] = "contribution-received"
    round: int
    name: str
    metrics: ReportedNumbers = Field(default_factory=dict)


class ContributionRejected(BaseEvent):
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


class RoundFused(BaseEvent):
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


class BaseKept(BaseEvent):
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


class RoundUndone(BaseEvent):
    """A person took back the last round, which `coldfusion fuse` had added. Its files are in another folder of the run.

    Attributes:
        round: the round.
        folder: where it is now, in the run folder.
    """

    kind: Literal["round-undone"] = "round-undone"
    round: int
    folder: str
