"""A round: its state, the contributions that are collected, and the base that is made of them."""

from .aggregator import Aggregator
from .collection import ContributionCollector
from .evaluation import EvaluationSchedule, EvaluationState
from .metrics import MetricsFn, aggregate, weighted_metrics
from .round_state import RoundState
from .server_state import ServerState

__all__ = [
    "Aggregator",
    "ContributionCollector",
    "EvaluationSchedule",
    "EvaluationState",
    "MetricsFn",
    "RoundState",
    "ServerState",
    "aggregate",
    "weighted_metrics",
]
