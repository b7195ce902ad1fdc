"""The metrics of many nodes as one record."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from logging import ERROR, WARNING

import numpy as np
from flwr.app import MetricRecord, RecordDict
from flwr.common import log

from coldfusion_fl.fusion import limit_to_median
from coldfusion_fl.sanitize import MAX_METRICS, is_sane

# As in Flower's strategies: of the contents of the replies, and the key of the weight.
MetricsFn = Callable[[list[RecordDict], str], MetricRecord]
Metric = int | float | list[int] | list[float]


def weighted_metrics(contents: Sequence[RecordDict], weighted_by_key: str) -> MetricRecord:
    """The mean of each metric, weighted as in FedAvg: m = Σ_c w_c m_c / Σ_c w_c (McMahan et al. 2017).

    Where all nodes report the same metrics, this is what FedAvg returns. FedAvg raises an exception where they do not.
    Here a metric is the mean over the nodes that report it as a finite number, or as a list of them of the same length.
    If a node reports no valid weight, all nodes have the same. No weight is above five times their lower median, so
    that no node alone decides what is reported of the others.

    Args:
        contents: of the replies.
        weighted_by_key: the key of the weight w_c, a number above 0; it is no metric itself.
    """
    found = [_metrics(content) for content in contents]
    weights = [metrics.get(weighted_by_key) for metrics in found]
    if not all(isinstance(weight, int | float) and weight > 0 for weight in weights):
        log(WARNING, "Not every node reports '%s' above 0, so that all metrics have the same weight.", weighted_by_key)
        weights = [1] * len(found)
    limited = limit_to_median(weights)  # type: ignore[arg-type]
    reported = Counter(key for metrics in found for key in metrics if key != weighted_by_key)
    keys = common_first(reported, reported)
    return MetricRecord({key: _weighted_mean(key, found, limited) for key in keys})


def aggregate(function: MetricsFn, contents: Iterable[RecordDict], weighted_by_key: str) -> MetricRecord | None:
    """Apply a project's function to the metrics of a round; None where there are none.

    An exception is logged, and the metrics are left out: nodes decide what they report, and must not end a run.
    """
    listed = list(contents)
    if not listed:
        return None
    try:
        return function(listed, weighted_by_key)
    except Exception:
        name = getattr(function, "__name__", repr(function))
        log(ERROR, "The metrics of this round are left out, because %s failed.", name, exc_info=True)
        return None


def _metrics(content: RecordDict) -> dict[str, Metric]:
    records = (record for record in content.values() if isinstance(record, MetricRecord))
    return {key: value for record in records for key, value in record.items() if _is_finite(value)}


def common_first(keys: Iterable[str], counts: Mapping[str, int]) -> list[str]:
    """At most `MAX_METRICS` of some keys, in their order: those that most nodes report.

    A node could report a different hundred in each round, and all of them would be kept for good.
    """
    kept = set(sorted(keys, key=lambda key: -counts[key])[:MAX_METRICS])
    return [key for key in keys if key in kept]


def _is_finite(value: Metric) -> bool:
    return all(map(is_sane, value if isinstance(value, list) else [value]))


def _weighted_mean(key: str, found: Sequence[Mapping[str, Metric]], weights: Sequence[float]) -> float | list[float]:
    reported = [(metrics[key], weight) for metrics, weight in zip(found, weights, strict=True) if key in metrics]
    first = reported[0][0]
    size = len(first) if isinstance(first, list) else None
    alike = [(value, w) for value, w in reported if (len(value) if isinstance(value, list) else None) == size]
    rows = np.array([value for value, _ in alike], np.float64)
    mean = np.average(rows, axis=0, weights=[w for _, w in alike])
    result: float | list[float] = mean.tolist()
    return result
