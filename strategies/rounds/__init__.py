"""A round: its state, the contributions that are collected, and the base that is made of them."""

from .collection import ContributionCollector
from .evaluation import EvaluationSchedule, EvaluationState
from .metrics import MetricsFn, aggregate, weighted_metrics
from .privacy import privacy_accounting
from .round_state import RoundState
from .strategy_state import StrategyState

__all__ = [
    "ContributionCollector",
    "EvaluationSchedule",
    "EvaluationState",
    "MetricsFn",
    "RoundState",
    "StrategyState",
    "aggregate",
    "privacy_accounting",
    "weighted_metrics",
]
