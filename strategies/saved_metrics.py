"""The metrics of a run's result in its ledger, so that the result of a resumed run has those of all rounds."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flwr.app import MetricRecord
from flwr.serverapp.strategy import Result

if TYPE_CHECKING:
    from coldfusion_fl.runs.ledger import Ledger

_Value = int | float | list[int] | list[float]


def metrics_for_json(metrics: MetricRecord | None) -> dict[str, Any]:
    """Metrics for a JSON file, which has no NaN and no infinity: they become None."""
    return {key: _finite_or_none(value) for key, value in (metrics or {}).items()}


def restore_metrics(ledger: "Ledger", result: Result) -> None:
    """Add the metrics of all saved rounds to a result.

    Raises:
        RunFolderError: a file is damaged.
    """
    for number in ledger.rounds():
        evaluated, central = ledger.load_metrics(number)
        for found, metrics in (
            (result.train_metrics_clientapp, ledger.record(number).metrics),
            (result.evaluate_metrics_clientapp, evaluated),
            (result.evaluate_metrics_serverapp, central),
        ):
            if metrics:
                found[number] = _from_json(metrics)


def _from_json(metrics: Mapping[str, Any]) -> MetricRecord:
    return MetricRecord({key: _number(value) for key, value in metrics.items()})


def _number(value: Any) -> _Value:
    if isinstance(value, list):
        return [math.nan if item is None else item for item in value]
    return math.nan if value is None else value


def _finite_or_none(value: _Value) -> Any:
    if isinstance(value, list):
        return [item if math.isfinite(item) else None for item in value]
    return value if math.isfinite(value) else None
