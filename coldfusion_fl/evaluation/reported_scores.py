"""The scores that nodes report: which numbers can be one, and the tables of them in a run folder."""

from collections.abc import Mapping
from typing import Any

from coldfusion_fl.config.settings import MODES
from coldfusion_fl.data.metrics import METRICS
from coldfusion_fl.evaluation.intervals import is_error
from coldfusion_fl.sanitize import MAX_NAME, bounded, is_sane, sane_numbers

# A node reports the error of a mode's difference under the mode with this ending, in points.
DIFFERENCE_ERROR = "-difference-error"
# What a node says about its scores, beside the numbers.
DESCRIPTION: Mapping[str, type] = {"metric": str, "head": str, "seen": bool, "test-rows-hash": str}
MAX_DESCRIPTION = 60
_ROWS = "num-examples"
_ROUNDING = 1e-6


def is_score(name: str, value: object, metric: object = "") -> bool:
    """Whether a number that a node reported under a name can be what the name says.

    Args:
        name: a mode, such as `frozen`: a score in points, 0 to 100, or from -100 for a correlation; a mode with the
            ending `-difference-error`; the number of test rows; or a name of another project, for any sane number.
        value: the number.
        metric: the metric of the scores; a score of an unknown one may be a correlation.
    """
    if name in DESCRIPTION or not is_sane(value):
        return False
    assert isinstance(value, int | float)
    if name.endswith(DIFFERENCE_ERROR):
        return is_error(value)
    if name == _ROWS:
        return value >= 0 and value == int(value)
    if name not in MODES:
        return True
    lowest = 100 * METRICS[metric].lowest if isinstance(metric, str) and metric in METRICS else -100
    return lowest - _ROUNDING <= value <= 100 + _ROUNDING


def description(table: Mapping[str, Any]) -> dict[str, Any]:
    """What a table says about scores, with texts of a bounded length."""
    return {
        key: bounded(table[key], MAX_DESCRIPTION) if kind is str else table[key]
        for key, kind in DESCRIPTION.items()
        if isinstance(table.get(key), kind)
    }


def clean_scores(scores: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The scores of a round by node, without what is none: an older release may have saved anything that was finite."""
    cleaned: dict[str, dict[str, Any]] = {}
    for name, table in scores.items():
        if isinstance(table, dict):
            about = description(table)
            numbers = ((key, value) for key, value in table.items() if is_score(key, value, about.get("metric")))
            cleaned[name[:MAX_NAME]] = sane_numbers(numbers) | about
    return cleaned
