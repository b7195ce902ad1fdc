"""One round of training, from sampling to saving."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from logging import WARNING

import numpy as np
from flwr.app import Message, MetricRecord
from flwr.common import log

from coldfusion_fl.run.events import BaseKept, ContributionRejected, Emit, RoundFused, RoundStarted
from coldfusion_fl.run.records import RejectionRecord, RoundRecord

from ..nodes.participants import Pool


def sender_of(reply: Message, sent: Mapping[str, Message]) -> str | None:
    """The name of the node whose message a reply answers; None where it answers none of them."""
    answered = reply.metadata.reply_to_message_id
    return next((name for name, message in sent.items() if message.metadata.message_id == answered), None)


@dataclass
class RoundState:
    """The state of a round, which each step passes to the next.

    Attributes:
        record: what is recorded of the round so far.
        sent: the messages to the sampled contributors, by name.
        staleness: of late contributions: the rounds between the base that they were trained on and this one, by name.
        lost_workers: the contributors whose worker process in a simulation was killed.
        is_simulated: whether the contributors are simulated.
        emit: emits an event of the run.
    """

    record: RoundRecord
    sent: dict[str, Message] = field(default_factory=dict)
    staleness: dict[str, int] = field(default_factory=dict)
    lost_workers: list[str] = field(default_factory=list)
    is_simulated: bool = False
    emit: Emit = lambda event: None

    @classmethod
    def start(cls, number: int, sampled: list[str], pool: Pool, emit: Emit) -> "RoundState":
        """A round whose contributors are sampled from a pool."""
        emit(RoundStarted(round=number, sampled=sampled, missing=pool.missing))
        record = RoundRecord(
            round=number, began=time.time(), sampled=sampled, excluded=pool.excluded, missing=pool.missing
        )
        return cls(record, is_simulated=pool.is_simulated, emit=emit)

    @property
    def number(self) -> int:
        """The round, from 1."""
        return self.record.round

    def reject(self, rejection: RejectionRecord) -> None:
        """Log, record and report that a contribution is not fused."""
        log(
            WARNING,
            "Round %d: the contribution of '%s' is rejected: %s.",
            self.number,
            rejection.name,
            rejection.reason,
        )
        self.record.rejected.append(rejection)
        self.emit(
            ContributionRejected(
                round=self.number, name=rejection.name, reason=rejection.reason, received=rejection.received
            )
        )

    def emit_kept(self, reason: str) -> None:
        """Report that the round makes no new base."""
        contributions, rejected = self.counts()
        self.emit(BaseKept(round=self.number, contributions=contributions, rejected=rejected, reason=reason))

    def emit_fused(self) -> None:
        """Report that the round made a new base."""
        contributions, rejected = self.counts()
        spent = self.record.privacy
        self.emit(RoundFused(round=self.number, contributions=contributions, rejected=rejected, privacy=spent))

    def counts(self) -> tuple[int, int]:
        """The number of contributions that passed the screening, and the number of rejections."""
        return len(self.record.contributions), len(self.record.rejected)

    def metrics(self) -> MetricRecord:
        """The counts and, if a base was made, the mean of each number that all its contributors reported."""
        reported = [contribution.reported for contribution in self.record.contributions.values()]
        common = set.intersection(*map(set, reported)) - {"server-round"} if self.record.fused else set()
        means = {key: float(np.mean([numbers[key] for numbers in reported])) for key in sorted(common)}
        contributions, rejected = self.counts()
        return MetricRecord({**means, "contributions": contributions, "rejected": rejected})
