"""The metrics of many nodes as one record."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from logging import ERROR, WARNING
from types import MappingProxyType

import numpy as np
from flwr.app import MetricRecord, RecordDict
from flwr.common import log

from coldfusion_fl.fusion import limit_to_median
from coldfusion_fl.sanitize import MAX_METRICS, MAX_METRICS_OF_ROUND, is_sane

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
    # Chosen before the means are made: one node may report a million names.
    means = {key: _weighted_mean(key, found, limited) for key in common_first(reported, reported)}
    sizes = {key: len(mean) for key, mean in means.items() if isinstance(mean, list)}
    return MetricRecord({key: means[key] for key in common_first(means, reported, sizes)})


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


def common_first(
    keys: Iterable[str], counts: Mapping[str, int], sizes: Mapping[str, int] = MappingProxyType({})
) -> list[str]:
    """At most `MAX_METRICS` of some keys, with at most `MAX_METRICS_OF_ROUND` numbers: those that most nodes report.

    A node could report a different hundred in each round, and all of them would be kept for good.

    Args:
        keys: the keys; the result has their order.
        counts: the number of nodes that report each.
        sizes: the number of numbers of each; of others, 1.
    """
    kept, left = set(), MAX_METRICS_OF_ROUND
    for key in sorted(keys, key=lambda key: -counts[key])[:MAX_METRICS]:
        left -= sizes.get(key, 1)
        if left < 0:
            break
        kept.add(key)
    return [key for key in keys if key in kept]


def _is_finite(value: Metric) -> bool:
    return all(map(is_sane, value if isinstance(value, list) else [value]))


def _weighted_mean(key: str, found: Sequence[Mapping[str, Metric]], weights: Sequence[float]) -> float | list[float]:
    reported = [(metrics[key], weight) for metrics, weight in zip(found, weights, strict=True) if key in metrics]
    # The length that most nodes report, None for a single number: one node alone must not decide it.
    lengths = [len(value) if isinstance(value, list) else None for value, _ in reported]
    [(most, _)] = Counter(lengths).most_common(1)
    alike = [one for one, length in zip(reported, lengths, strict=True) if length == most]
    rows = np.array([value for value, _ in alike], np.float64)
    mean = np.average(rows, axis=0, weights=[w for _, w in alike])
    result: float | list[float] = mean.tolist()
    return result
