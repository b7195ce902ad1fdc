"""One round of training, from sampling to saving."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from logging import WARNING

from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common import log

from coldfusion_fl.config.message_keys import CONTRIBUTIONS, REJECTED
from coldfusion_fl.run.events import BaseKept, ContributionRejected, Emit, RoundFused, RoundStarted
from coldfusion_fl.run.records import RejectionRecord, RoundRecord

from ..nodes.messaging import records_of
from ..nodes.participants import Pool
from .metrics import MetricsFn, aggregate


@dataclass(frozen=True)
class SentMessages:
    """The messages of a round or an evaluation, and which replies answer them.

    Attributes:
        by_name: the messages by the name of their node.
    """

    by_name: Mapping[str, Message] = field(default_factory=dict)

    @classmethod
    def of(cls, messages: Iterable[Message], name_of: Callable[[int], str]) -> "SentMessages":
        """The messages to nodes whose names are known by node ID."""
        return cls({name_of(message.metadata.dst_node_id): message for message in messages})

    def sender(self, reply: Message, name_of: Callable[[int], str]) -> str | None:
        """The name of the node whose message a reply answers; None where it answers none of them.

        A wrapper of the strategy may have sent messages of its own. So a reply to an unknown message belongs to the
        node that it names, if that node was sent a message.
        """
        claimed = name_of(reply.metadata.src_node_id)
        answered = reply.metadata.reply_to_message_id
        if claimed in self.by_name and self.by_name[claimed].metadata.message_id == answered:
            return claimed
        sent = (name for name, message in self.by_name.items() if message.metadata.message_id == answered)
        return next(sent, claimed if claimed in self.by_name else None)


def without_arrays(reply: Message) -> RecordDict:
    """The metrics and the configuration of a reply, for the functions that aggregate metrics."""
    return RecordDict({**records_of(reply, MetricRecord), **records_of(reply, ConfigRecord)})


@dataclass
class RoundState:
    """The state of a round, which each step passes to the next.

    Attributes:
        record: what is recorded of the round so far.
        sent: the messages to the sampled contributors.
        arrived: the contributors whose replies a subclass was given; it may leave some of them out.
        contents: the metrics and configurations in the replies of valid contributions, by contributor.
        staleness: of late contributions: the rounds between the base that they were trained on and this one, by name.
        lost_workers: the contributors whose worker process in a simulation was killed.
        is_simulated: whether the contributors are simulated.
        emit: emits an event of the run.
    """

    record: RoundRecord
    sent: SentMessages = field(default_factory=SentMessages)
    arrived: set[str | None] = field(default_factory=set)
    contents: dict[str, RecordDict] = field(default_factory=dict)
    staleness: dict[str, int] = field(default_factory=dict)
    lost_workers: list[str] = field(default_factory=list)
    is_simulated: bool = False
    emit: Emit = lambda event: None

    @classmethod
    def start(cls, number: int, emit: Emit) -> "RoundState":
        """A round that begins now."""
        return cls(RoundRecord(round=number, began=time.time()), emit=emit)

    def note_pool(self, pool: Pool) -> None:
        """Record the contributors that are excluded or missing."""
        self.record.excluded, self.record.missing = pool.excluded, pool.missing
        self.is_simulated = pool.is_simulated

    def note_sent(self, sent: SentMessages) -> None:
        """Record and report the contributors that are sent the base."""
        self.sent = sent
        self.record.sampled = sorted(sent.by_name)
        self.emit(RoundStarted(round=self.number, sampled=self.record.sampled, missing=self.record.missing))

    def note_arrived(self, replies: Iterable[Message], name_of: Callable[[int], str]) -> None:
        """Note the replies that a subclass is given."""
        self.arrived = {self.sent.sender(reply, name_of) for reply in replies}

    def rename(self, old: str, new: str) -> None:
        """Record a contributor under the name that its reply gives."""
        self.sent = SentMessages({new if name == old else name: sent for name, sent in self.sent.by_name.items()})
        self.record.sampled = sorted(self.sent.by_name)

    @property
    def number(self) -> int:
        """The round, from 1."""
        return self.record.round

    def reject(self, rejection: RejectionRecord, level: int = WARNING) -> None:
        """Log, record and report that a contribution is not fused."""
        log(
            level,
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

    def metrics(self, function: MetricsFn, weighted_by_key: str) -> MetricRecord:
        """The counts and, if a base was made, the aggregated metrics of its contributors."""
        fused = sorted(self.record.contributions) if self.record.fused else []
        metrics = aggregate(function, [self.contents[name] for name in fused], weighted_by_key) or MetricRecord()
        contributions, rejected = self.counts()
        return MetricRecord({**metrics, CONTRIBUTIONS: contributions, REJECTED: rejected})
