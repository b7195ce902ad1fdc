"""A round in progress: what is recorded and reported of it."""

from dataclasses import dataclass, field

from coldfusion_fl.runs.events import BaseKept, ContributionRejected, Emit, RoundFused
from coldfusion_fl.runs.records import RejectionRecord, RoundRecord


@dataclass
class RoundProgress:
    """A round that is not saved yet.

    Attributes:
        record: what is recorded of the round so far.
        staleness: of contributions to an earlier base: the rounds between that base and this one, by name.
        lost_workers: the contributors whose worker process in a simulation was killed.
        emit: emits an event of the run.
    """

    record: RoundRecord
    staleness: dict[str, int] = field(default_factory=dict)
    lost_workers: list[str] = field(default_factory=list)
    emit: Emit = lambda event: None

    @property
    def number(self) -> int:
        """The round, from 1."""
        return self.record.round

    def reject(self, rejection: RejectionRecord) -> None:
        """Record and report that a contribution is not fused."""
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
