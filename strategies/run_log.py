"""The lines that `start` logs: those of Flower's own `Strategy.start`, in the same words."""

import time
from logging import INFO
from typing import TYPE_CHECKING

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.common import log
from flwr.serverapp.strategy import Result

if TYPE_CHECKING:
    from .cold_fusion import ColDFusion


def log_start(
    strategy: "ColDFusion",
    num_rounds: int,
    arrays: ArrayRecord,
    train_config: ConfigRecord | None,
    evaluate_config: ConfigRecord | None,
) -> None:
    """Log what a run begins with."""
    log(INFO, "Starting %s strategy:", type(strategy).__name__)
    log(INFO, "\t├── Number of rounds: %d", num_rounds)
    log(INFO, "\t├── ArrayRecord (%.2f MB)", sum(len(array.data) for array in arrays.values()) / 1024**2)
    log(INFO, "\t├── ConfigRecord (train): %s", _format_config(train_config))
    log(INFO, "\t├── ConfigRecord (evaluate): %s", _format_config(evaluate_config))
    strategy.summary()
    log(INFO, "")


def log_settings(strategy: "ColDFusion") -> None:
    """Log the settings of a strategy."""
    for name, value in strategy.settings.to_json().items():
        log(INFO, "\t├──> %s: %s", name, value)
    log(INFO, "\t└──> Keys in records:")
    log(INFO, "\t\t├── Weighted by: '%s'", strategy.weighted_by_key)
    log(INFO, "\t\t├── ArrayRecord key: '%s'", strategy.arrayrecord_key)
    log(INFO, "\t\t└── ConfigRecord key: '%s'", strategy.configrecord_key)


def log_round(server_round: int, num_rounds: int) -> None:
    """Log that a round begins."""
    log(INFO, "")
    log(INFO, "[ROUND %s/%s]", server_round, num_rounds)


def log_metrics(metrics: MetricRecord) -> None:
    """Log the aggregated metrics of the nodes."""
    log(INFO, "\t└──> Aggregated MetricRecord: %s", metrics)


def log_server_metrics(server_round: int, metrics: MetricRecord | None) -> None:
    """Log what the server's own evaluation returned."""
    if server_round == 0:
        log(INFO, "Initial global evaluation results: %s", metrics)
    else:
        log(INFO, "Global evaluation")
        log(INFO, "\t└──> MetricRecord: %s", metrics)


def log_end(result: Result, started: float) -> None:
    """Log the result of a run that started at a time of `time.monotonic`."""
    log(INFO, "")
    log(INFO, "Strategy execution finished in %.2fs", time.monotonic() - started)
    log(INFO, "")
    log(INFO, "Final results:")
    log(INFO, "")
    for line in str(result).splitlines():
        log(INFO, "\t%s", line)
    log(INFO, "")


def _format_config(config: ConfigRecord | None) -> str:
    if not config:
        return "(empty!)"
    items = (f"'{key}': {'<bytes>' if isinstance(value, bytes) else value}" for key, value in config.items())
    return f"{{{', '.join(items)}}}"
