"""From the contributions of a round to the next base: screening, fusion, server optimizer, server validation."""

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from coldfusion_fl.aggregation.pipeline import Pipeline
from coldfusion_fl.aggregation.screening import Candidate, ScoreFunction
from coldfusion_fl.arrays.blocks import update_norm
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.errors import ErrorCode, FusionError, RunError, count
from coldfusion_fl.fusion import fuse_with_shares
from coldfusion_fl.repository.round_progress import RoundProgress
from coldfusion_fl.repository.server_state import ServerState
from coldfusion_fl.runs.history import past_norms
from coldfusion_fl.runs.records import (
    ContributionRecord,
    PrivacySpent,
    RejectionRecord,
    RoundRecord,
    UpdateFacts,
    ValidationScores,
)

# Returns the privacy loss after a round: of the records of the earlier rounds, and the names of its contributors.
Accounting = Callable[[Sequence[RoundRecord], Iterable[str]], PrivacySpent]


class NoNewBaseError(Exception):
    """The round keeps its base; the message is a clause that says why."""


class Aggregator:
    """Makes the next base of a round's contributions.

    Args:
        state: the current base, the state of the server optimizer and the earlier records.
        pipeline: screening, fusion and server optimizer.
        min_contributions: with fewer contributions a round keeps its base.
        score_fn: the server's own score of an encoder, more is better; None: it has none.
        rollback: the base is kept if the score falls by more than this; None: never.
        accounting: returns the privacy loss, where the fusion is private; None: it is not.
    """

    def __init__(
        self,
        state: ServerState,
        pipeline: Pipeline,
        min_contributions: int,
        score_fn: ScoreFunction | None,
        rollback: float | None,
        accounting: Accounting | None = None,
    ) -> None:
        self._state = state
        self._pipeline = pipeline
        self._min_contributions = min_contributions
        self._score_fn = score_fn
        self._rollback = rollback
        self._base_score: float | None = None
        self._accounting = accounting

    def next_base(self, round_: RoundProgress, candidates: Mapping[str, Candidate]) -> EncoderDict | None:
        """Screen and fuse the contributions, and apply the server optimizer.

        Args:
            round_: the round; what happens is added to its record.
            candidates: the contributions that fit the base, by contributor.

        Returns:
            The next base; None where the round keeps its base, for a reason that its record has.

        Raises:
            RunError: the server's score of the base is not a finite number; or there are too few contributions, and
                workers were killed. Such a round is not saved, so that a resumed run repeats it.
        """
        record = round_.record
        record.trained = time.time()
        try:
            base = self._optimize(round_, self._fuse(round_, candidates))
        except NoNewBaseError as reason:
            record.kept_because = str(reason)
            round_.emit_kept(str(reason))
            return None
        record.fused = True
        round_.emit_fused()
        return base

    def _fuse(self, round_: RoundProgress, candidates: Mapping[str, Candidate]) -> EncoderDict:
        """Screen the contributions and fuse those that pass.

        Args:
            round_: the round; contributions and rejections are added to its record.
            candidates: the contributions that fit the base, by contributor.

        Raises:
            NoNewBaseError: too few pass, or they cannot be fused.
            RunError: too few pass, and workers were killed.
        """
        past = past_norms(self._state.records)
        known = {name: replace(c, past_norms=past.get(name, ())) for name, c in candidates.items()}
        screened = self._pipeline.screen(self._state.base, known, self._score_fn)
        facts = _facts(known, screened.cosines, round_.staleness)
        for name, (_, reason) in screened.rejected.items():
            round_.reject(RejectionRecord(name=name, reason=reason, facts=facts[name]))
        names = [contribution.name for contribution in screened.contributions]
        for name in names:
            round_.record.contributions[name] = ContributionRecord(**dict(facts[name]))
        if len(screened.contributions) < self._min_contributions:
            if round_.lost_workers:
                raise RunError(_describe_lost_workers(round_), ErrorCode.WORKERS_FAILED)
            number = count(len(screened.contributions), "contribution")
            raise NoNewBaseError(f"{number} passed the screening, but min-contributions is {self._min_contributions}")
        try:
            fused, shares = fuse_with_shares(self._pipeline.fusion, self._state.base, screened.contributions)
        except FusionError as failure:
            raise NoNewBaseError(str(failure).rstrip(".")) from None
        for name, share in zip(names, shares or (), strict=shares is not None):
            round_.record.contributions[name].share = candidates[name].scale * share
        if self._accounting:  # this round counts too
            round_.record.privacy = self._accounting(self._state.records, round_.record.contributions)
        return fused

    def _optimize(self, round_: RoundProgress, fused: Encoder) -> EncoderDict:
        """Apply the server optimizer, and compare the result with the base by the server's own score.

        Args:
            round_: the round; scores and the norm of the update are added to its record.
            fused: the fused encoder.

        Raises:
            NoNewBaseError: the result is not finite, or its score is too low.
            RunError: there is no score to compare with.
        """
        try:
            next_base, optimizer_state = self._pipeline.optimize(self._state.base, fused, self._state.optimizer_state)
        except FusionError as failure:
            raise NoNewBaseError(str(failure).rstrip(".")) from None
        self._compare_scores(round_, next_base)
        self._state.optimizer_state = optimizer_state
        round_.record.update_norm = update_norm(self._state.base, next_base)
        return next_base

    def _compare_scores(self, round_: RoundProgress, next_base: Encoder) -> None:
        """Keep the base if its successor scores too low. The score of an accepted base is not computed again."""
        if self._rollback is None or self._score_fn is None:
            return
        before = self._score_fn(self._state.base) if self._base_score is None else self._base_score
        if before == -math.inf:
            raise RunError(
                "the server-validation score of the base is not finite, so 'rollback' cannot compare bases with it. "
                "Check score_fn or the server-validation task, or disable 'rollback'.",
                ErrorCode.RUN_FAILED,
            )
        after = self._score_fn(next_base)
        round_.record.server_validation = ValidationScores(before=_finite_or_none(before), after=_finite_or_none(after))
        if after < before - self._rollback:
            self._base_score = before
            round_.record.rolled_back = True
            raise NoNewBaseError(f"the server's validation score fell from {before:.4g} to {after:.4g}")
        self._base_score = after


def _facts(
    candidates: Mapping[str, Candidate], cosines: Mapping[str, float | None], staleness: Mapping[str, int]
) -> dict[str, UpdateFacts]:
    """What is known of each contribution before the screening, for the record."""
    return {
        name: UpdateFacts(
            norm=candidate.norm,
            cosine=cosines[name],
            sha256=candidate.sha256,
            reported=dict(candidate.contribution.metrics),
            staleness=staleness.get(name),
            bytes=candidate.bytes,
        )
        for name, candidate in candidates.items()
    }


def _describe_lost_workers(round_: RoundProgress) -> str:
    reasons = {rejection.name: rejection.reason for rejection in round_.record.rejected}
    names = sorted(round_.lost_workers)
    return (
        f"round {round_.number} has too few contributions, because worker processes were killed. {', '.join(names)}: "
        f"{reasons[names[0]]}."
    )


def _finite_or_none(score: float) -> float | None:
    """A score for JSON, which has no infinity."""
    return score if math.isfinite(score) else None
