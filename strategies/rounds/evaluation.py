"""After which rounds the nodes evaluate, and what their scores are."""

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from logging import WARNING
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord
from flwr.common import log

from coldfusion_fl.run.events import Emit, ScoreFailed, ScoreReceived
from coldfusion_fl.run.intervals import DIFFERENCE_ERROR, is_error
from coldfusion_fl.sanitize import sanitize

from ..nodes.messaging import error_reason, records_of
from .round_state import sender_of
from .validation import reported_metrics

# What a node says about its scores, beside the numbers.
_DESCRIPTION = {"metric": str, "head": str, "seen": bool, "test-rows-hash": str}
_MAX_TEXT = 60
_MAX_NAMES = 5


@dataclass(frozen=True)
class EvaluationSchedule:
    """Which bases are evaluated.

    Attributes:
        every: number of rounds between evaluations. 0: only the first and the last base; -1: no evaluation.
        num_rounds: the last round; None: unknown, as in Flower's own loop.
    """

    every: int
    num_rounds: int | None = None

    def is_first_or_last(self, server_round: int) -> bool:
        """Whether a round's base is the one that the run begins or ends with."""
        return server_round in (0, self.num_rounds)

    def is_due(self, server_round: int) -> bool:
        """Whether a round's base is evaluated."""
        if self.every < 0:
            return False
        regular = self.every > 0 and server_round % self.every == 0
        return regular or self.is_first_or_last(server_round)

    def modes(self, server_round: int, seen: bool) -> str:
        """The scores that a node computes, with commas between.

        The few-shot score is for tasks that the base has not seen. It takes a training, so only the first and the last
        base get it.
        """
        return "frozen,few-shot" if self.is_first_or_last(server_round) and not seen else "frozen"


@dataclass
class EvaluationState:
    """One evaluation of a base by all nodes.

    Attributes:
        round: the round that made the base.
        sent: the messages, by node name.
        scores: what the nodes answered, by node name.
        emit: emits an event of the run.
    """

    round: int
    sent: dict[str, Message] = field(default_factory=dict)
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    emit: Emit = lambda event: None

    def collect(self, replies: Iterable[Message], configrecord_key: str, timeout: float) -> None:
        """Take the scores as they arrive. Errors and missing answers are logged and reported.

        Args:
            replies: as they arrive.
            configrecord_key: the key of the record that describes the scores.
            timeout: the seconds that nodes had, for messages.
        """
        # Everybody is silent until its reply is here, so that each node gets a score or a reason.
        silent = dict.fromkeys(self.sent, f"it did not answer within {timeout:g} s")
        for reply in replies:
            name = sender_of(reply, self.sent)
            if name not in silent:
                sender = name or f"node-{reply.metadata.src_node_id}"
                log(WARNING, "'%s' sent scores that were not requested, or sent them twice. They are ignored.", sender)
                continue
            del silent[name]
            if reply.has_error():
                self._fail(name, error_reason(reply))
                continue
            config = records_of(reply, ConfigRecord).get(configrecord_key, ConfigRecord())
            numbers = {key: value for key, value in reported_metrics(reply).items() if _is_score(key, value)}
            if wrong := _not_finite(reply):
                self._fail(name, f"not a number: {', '.join(wrong)}")
                if not any(isinstance(value, float) for value in numbers.values()):
                    continue
            self.scores[name] = numbers | _description(config)
            self.emit(ScoreReceived(round=self.round, name=name, scores=numbers))
        for name, reason in silent.items():
            self._fail(name, reason)

    def means(self) -> MetricRecord | None:
        """The mean of each score over the nodes that have it; None where there are no scores.

        The errors of the differences have none: the error of a mean difference is smaller than their mean.
        """
        if not self.scores:
            return None
        values: dict[str, list[float]] = {}
        for scores in self.scores.values():
            for key, value in scores.items():
                if isinstance(value, float) and not key.endswith(DIFFERENCE_ERROR):
                    values.setdefault(key, []).append(value)
        return MetricRecord({key: float(np.mean(found)) for key, found in sorted(values.items())})

    def _fail(self, name: str, reason: str) -> None:
        log(WARNING, "'%s' could not evaluate after round %d: %s", name, self.round, reason)
        self.emit(ScoreFailed(round=self.round, name=name, reason=reason))


def _is_score(key: str, value: float) -> bool:
    """Whether a reported number is kept: it has no name of the description, and an error is not negative or absurd."""
    return key not in _DESCRIPTION and (not key.endswith(DIFFERENCE_ERROR) or is_error(value))


def _not_finite(reply: Message) -> list[str]:
    """The names of the numbers in a reply that are NaN or infinite, at most a few: they are no scores."""
    items = (item for record in records_of(reply, MetricRecord).values() for item in record.items())
    wrong = (key for key, value in items if isinstance(value, float) and not math.isfinite(value))
    return [sanitize(key)[:_MAX_TEXT] for key in itertools.islice(wrong, _MAX_NAMES)]


def _description(config: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: sanitize(config[key])[:_MAX_TEXT] if kind is str else config[key]
        for key, kind in _DESCRIPTION.items()
        if isinstance(config.get(key), kind)
    }
