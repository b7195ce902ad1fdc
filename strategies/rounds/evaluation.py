"""After which rounds the nodes evaluate, and what their scores are."""

import functools
import itertools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from logging import INFO, WARNING
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.common import log

from coldfusion_fl.evaluation.reported_scores import DESCRIPTION, DIFFERENCE_ERROR, description, is_score
from coldfusion_fl.runs.events import Emit, ScoreFailed, ScoreReceived
from coldfusion_fl.sanitize import MAX_KEY, bounded, metrics_limit

from ..nodes.messaging import RECEIVED, error_reason, records_of, silence
from .metrics import common_first
from .round_state import SentMessages, without_arrays
from .validation import reported_metrics

_MAX_NAMES = 5
# How Flower answers for a client without a function for a kind of message.
_NO_FUNCTION = re.compile(r"No evaluate function registered")


@dataclass(frozen=True)
class EvaluationSchedule:
    """Which bases are evaluated.

    Attributes:
        every: number of rounds between evaluations. 0: only the first and the last base; -1: no evaluation.
        num_rounds: the last round; None: unknown, as in Flower's own loop.
        has_first: whether the first base is evaluated.
    """

    every: int
    num_rounds: int | None = None
    has_first: bool = True

    def is_first_or_last(self, server_round: int) -> bool:
        """Whether a round's base is the one that the run begins or ends with."""
        return server_round in (0, self.num_rounds)

    def is_due(self, server_round: int) -> bool:
        """Whether a round's base is evaluated."""
        if self.every < 0 or (server_round == 0 and not self.has_first):
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
    """One evaluation of a base by nodes.

    Attributes:
        round: the round that made the base.
        sent: the messages to the nodes.
        scores: what the nodes answered, by node name.
        contents: the metrics and configurations in the replies, by node name.
        emit: emits an event of the run.
    """

    round: int
    sent: SentMessages = field(default_factory=SentMessages)
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    contents: dict[str, RecordDict] = field(default_factory=dict)
    emit: Emit = lambda event: None

    def collect(
        self, replies: Iterable[Message], name_of: Callable[[int], str], configrecord_key: str, timeout: float | None
    ) -> bool:
        """Take the scores as they arrive. Errors and missing answers are logged and reported.

        Args:
            replies: as they arrive.
            name_of: the name of a node, by node ID.
            configrecord_key: the key of the record that describes the scores.
            timeout: the seconds that nodes had, for messages.

        Returns:
            Whether the clients can evaluate: False if each one answered that it has no function for it.
        """
        # Everybody is silent until its reply is here, so that each node gets a score or a reason.
        silent = dict.fromkeys(self.sent.by_name, silence(timeout))
        unable = []
        for reply in replies:
            name = self.sent.sender(reply, name_of)
            if name not in silent:
                sender = name or name_of(reply.metadata.src_node_id)
                log(WARNING, "'%s' sent scores that were not requested, or sent them twice. They are ignored.", sender)
                continue
            del silent[name]
            if reply.has_error() and _NO_FUNCTION.search(reply.error.reason or ""):
                unable.append(name)
            elif reply.has_error():
                self._fail(name, error_reason(reply))
            else:
                self._take(name, reply, configrecord_key)
        log(INFO, RECEIVED, "aggregate_evaluate", len(self.scores), len(self.sent.by_name) - len(self.scores))
        if unable and len(unable) == len(self.sent.by_name):
            log(INFO, "The clients have no function for evaluate messages (@app.evaluate). They get no more of them.")
            return False
        failed = {**dict.fromkeys(unable, "its client has no function for evaluate messages"), **silent}
        for name, reason in failed.items():
            self._fail(name, reason)
        return True

    def _take(self, name: str, reply: Message, configrecord_key: str) -> None:
        try:
            about = description(records_of(reply, ConfigRecord).get(configrecord_key, ConfigRecord()))
            is_kept = functools.partial(is_score, metric=about.get("metric", ""))
            reported = reported_metrics(reply, metrics_limit(len(self.sent.by_name)))
            numbers = {key: value for key, value in reported.items() if is_kept(key, value)}
            wrong, content = _no_scores(reply, is_kept), without_arrays(reply, is_kept)
        # As for contributions: a node may report anything, and must not end the run.
        except Exception as broken:
            self._fail(name, f"its scores cannot be read: {type(broken).__name__}")
            return
        if wrong:
            self._fail(name, f"no number, or out of range: {', '.join(wrong)}")
            if not any(isinstance(value, float) for value in numbers.values()):
                return
        self.contents[name] = content
        self.scores[name] = numbers | about
        self.emit(ScoreReceived(round=self.round, name=name, scores=numbers))

    def _fail(self, name: str, reason: str) -> None:
        log(WARNING, "'%s' could not evaluate after round %d: %s", name, self.round, reason)
        self.emit(ScoreFailed(round=self.round, name=name, reason=reason))


def mean_scores(contents: Sequence[RecordDict], weighted_by_key: str) -> MetricRecord:
    """The uniform mean of each score over the tasks, as in the paper, whatever their numbers of rows are.

    The errors of the differences have none: the error of a mean difference is smaller than their mean.

    Args:
        contents: of the replies.
        weighted_by_key: the key of the number of rows, which is no score.
    """
    values: dict[str, list[float]] = {}
    for content in contents:
        for record in content.values():
            for key, value in record.items() if isinstance(record, MetricRecord) else ():
                if isinstance(value, float) and math.isfinite(value) and not key.endswith(DIFFERENCE_ERROR):
                    values.setdefault(key, []).append(value)
    kept = common_first(values, {key: len(found) for key, found in values.items()})
    return MetricRecord({key: float(np.mean(values[key])) for key in sorted(kept)})


def _no_scores(reply: Message, is_kept: Callable[[str, float], bool]) -> list[str]:
    """The names of the numbers in a reply that are no scores, such as NaN, at most a few."""
    items = (item for record in records_of(reply, MetricRecord).values() for item in record.items())
    wrong = (
        key
        for key, value in items
        if isinstance(value, int | float) and key not in DESCRIPTION and not is_kept(key, value)
    )
    return [bounded(key, MAX_KEY) for key in itertools.islice(wrong, _MAX_NAMES)]
