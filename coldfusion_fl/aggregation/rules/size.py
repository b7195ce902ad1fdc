"""The rule `size`: reject updates whose norm is unusual."""

import statistics
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from coldfusion_fl.aggregation.screening import Rule, ScreeningResult, ScreeningRound

# The median of fewer norms does not show which one is the outlier.
_MIN_NORMS = 3


class Size(Rule):
    """Rejects an update that is too large, or suspiciously small.

    The norm is compared with the median of the round, if it has three candidates or more, and with the median of the
    contributor's own earlier norms, if it has three or more. An update of exactly zero is always rejected.

    Use it against broken or noisy contributors. It rejected noise of ten times the length of an update in the
    experiments (experiments/results/attacks).
    """

    name: ClassVar[str] = "size"
    factor: float = Field(5.0, gt=1, description="Reject an update that is longer than this multiple of a median.")
    least: float = Field(0.01, ge=0, lt=1, description="Reject an update that is shorter than this share of a median.")

    def __call__(self, round_: ScreeningRound) -> ScreeningResult:
        """See `Rule`."""
        norms = [candidate.norm for candidate in round_.candidates.values()]
        rejected = {}
        for name, candidate in round_.candidates.items():
            if not candidate.norm:
                rejected[name] = "it sent the base back unchanged"
            elif reason := (
                self._reason(candidate.norm, norms, "the round's median")
                or self._reason(candidate.norm, candidate.past_norms, "the median of its own past")
            ):
                rejected[name] = reason
        return ScreeningResult(rejected)

    def _reason(self, norm: float, others: Sequence[float], what: str) -> str | None:
        """Why a norm is unusual among others, as a clause; None if it is not."""
        if len(others) < _MIN_NORMS or not (median := statistics.median(others)):
            return None
        if self.least * median <= norm <= self.factor * median:
            return None
        size = "too large" if norm > median else "suspiciously small"
        return f"its update is {size}: {norm / median:.3g} times {what} (a norm of {norm:.3g} against {median:.3g})"
