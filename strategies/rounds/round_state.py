"""One round of training, from sampling to saving."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from logging import WARNING
from typing import Any

from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common import log

from coldfusion_fl.config.message_keys import CONTRIBUTIONS, REJECTED
from coldfusion_fl.repository.round_progress import RoundProgress
from coldfusion_fl.runs.events import Emit, RoundStarted
from coldfusion_fl.runs.records import RejectionRecord, RoundRecord
from coldfusion_fl.sanitize import MAX_KEY, MAX_LIST

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


def without_arrays(reply: Message, is_kept: Callable[[str, float], bool] | None = None) -> RecordDict:
    """The metrics and the configuration of a reply, for the functions that aggregate metrics.

    Args:
        reply: the reply.
        is_kept: whether a number, by name and value, is kept. None: all of them are. Long lists are left out, and
            long names cut: the means go into the log and into the run folder.
    """

    def kept(name: str, value: Any) -> bool:
        return len(value) <= MAX_LIST if isinstance(value, list) else is_kept is None or is_kept(name, value)

    metrics = {
        key: MetricRecord({name[:MAX_KEY]: value for name, value in record.items() if kept(name, value)})
        for key, record in records_of(reply, MetricRecord).items()
    }
    return RecordDict({**metrics, **records_of(reply, ConfigRecord)})


@dataclass
class RoundState(RoundProgress):
    """The state of a round of the strategy, which each step passes to the next.

    Attributes:
        sent: the messages to the sampled contributors.
        arrived: the contributors whose replies a subclass was given; it may leave some of them out.
        contents: the metrics and configurations in the replies of valid contributions, by contributor.
        is_simulated: whether the contributors are simulated.
    """

    sent: SentMessages = field(default_factory=SentMessages)
    arrived: set[str | None] = field(default_factory=set)
    contents: dict[str, RecordDict] = field(default_factory=dict)
    is_simulated: bool = False

    @classmethod
    def start(cls, number: int, emit: Emit) -> "RoundState":
        """A round that begins now."""
        return cls(RoundRecord(round=number, began=time.time()), emit=emit)

    def note_pool(self, pool: Pool) -> None:
        """Record the contributors that are excluded, missing or paused."""
        self.record.excluded, self.record.missing = pool.excluded, pool.missing
        self.record.paused = pool.paused
        self.is_simulated = pool.is_simulated

    def note_sent(self, sent: SentMessages) -> None:
        """Record and report the contributors that are sent the base."""
        self.sent = sent
        self.record.sampled = sorted(sent.by_name)
        record = self.record
        paused, excluded = sorted(record.paused), sorted(record.excluded)
        self.emit(
            RoundStarted(
                round=self.number, sampled=record.sampled, missing=record.missing, paused=paused, excluded=excluded
            )
        )

    def note_arrived(self, replies: Iterable[Message], name_of: Callable[[int], str]) -> None:
        """Note the replies that a subclass is given."""
        self.arrived = {self.sent.sender(reply, name_of) for reply in replies}

    def rename(self, old: str, new: str) -> None:
        """Record a contributor under the name that its reply gives."""
        self.sent = SentMessages({new if name == old else name: sent for name, sent in self.sent.by_name.items()})
        self.record.sampled = sorted(self.sent.by_name)

    def reject(self, rejection: RejectionRecord, level: int = WARNING) -> None:
        """Log, record and report that a contribution is not fused."""
        log(
            level,
            "Round %d: the contribution of '%s' is rejected: %s.",
            self.number,
            rejection.name,
            rejection.reason,
        )
        super().reject(rejection)

    def emit_kept(self, reason: str) -> None:
        """Log and report that the round makes no new base."""
        log(WARNING, "Round %d keeps its base: %s.", self.number, reason)
        super().emit_kept(reason)

    def metrics(self, function: MetricsFn, weighted_by_key: str) -> MetricRecord:
        """The counts and, if a base was made, the aggregated metrics of its contributors."""
        fused = sorted(self.record.contributions) if self.record.fused else []
        metrics = aggregate(function, [self.contents[name] for name in fused], weighted_by_key) or MetricRecord()
        contributions, rejected = self.counts()
        return MetricRecord({**metrics, CONTRIBUTIONS: contributions, REJECTED: rejected})
