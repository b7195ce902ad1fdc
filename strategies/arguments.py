"""The strategy's arguments, checked and made ready."""

import math
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from coldfusion_fl.aggregation.pipeline import Pipeline, check_pipeline, parse_pipeline
from coldfusion_fl.aggregation.screening import ScoreFunction
from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.config.settings import COMPRESSIONS
from coldfusion_fl.errors import SettingsError
from coldfusion_fl.run.records import RoundSettings

_WHOLE_NUMBERS = {
    "contributors_per_round": 1,
    "min_contributions": 1,
    "min_available_nodes": 1,
    "seed": 0,
    "evaluate_every": -1,
    "max_rejections": 0,
    "keep_last": 0,
}
_NUMBERS = {"node_timeout": 0, "rollback": 0, "ema": 0, "staleness_discount": 0}


def check_arguments(given: Mapping[str, Any]) -> None:
    """Check what a person gave to the constructor, by name.

    Raises:
        SettingsError: an argument is of another type or out of range.
    """
    for kind, what, limits in ((int, "a whole number", _WHOLE_NUMBERS), (int | float, "a number", _NUMBERS)):
        for name, least in limits.items():
            value = given[name]
            if name == "rollback" and value is None:
                continue
            if not isinstance(value, kind) or isinstance(value, bool) or not value >= least:
                raise SettingsError(f"{name} must be {what} of at least {least}, but is {value!r}.")
    if given["ema"] >= 1:
        raise SettingsError(f"ema must be at least 0 and below 1, but is {given['ema']}.")
    if given["staleness_discount"] > 1:
        raise SettingsError(
            f"staleness_discount must be at least 0 and at most 1, but is {given['staleness_discount']}."
        )
    if given["compression"] not in COMPRESSIONS:
        raise SettingsError(f"compression must be one of {', '.join(COMPRESSIONS)}, but is {given['compression']!r}.")
    keys = given["shared_keys"]
    if keys is not None and not callable(keys) and not (isinstance(keys, str) and keys):
        raise SettingsError(f"shared_keys must be patterns with commas between, or a function, not {keys!r}.")
    if given["score_fn"] is not None and not callable(given["score_fn"]):
        raise SettingsError(
            f"score_fn must be a function of an encoder, its arrays by name, not {given['score_fn']!r}."
        )
    if isinstance(given["awaited_names"], str):
        raise SettingsError(f"awaited_names must be a list of names, not the text {given['awaited_names']!r}.")
    if given["screening"] is None:
        raise SettingsError('screening must be a text or a list of rules; "" is no rule.')
    if isinstance(given["ledger"], str | Path):
        raise SettingsError(f"ledger must be an opened run folder: Ledger.open({str(given['ledger'])!r}).")


def read_arguments(given: Mapping[str, Any]) -> tuple[Pipeline, RoundSettings]:
    """Check the constructor's arguments, and make the pipeline and the recorded settings of them.

    Args:
        given: the arguments by name.

    Raises:
        SettingsError: an argument is of another type or out of range, a text names no component, or two arguments
            contradict each other.
    """
    check_arguments(given)
    pipeline = parse_pipeline(given["fusion"], given["server_optimizer"], given["screening"])
    check_pipeline(
        pipeline,
        given["contributors_per_round"],
        given["min_contributions"],
        has_score_function=given["score_fn"] is not None,
        has_rollback=given["rollback"] is not None,
    )
    recorded = {name: given[name] for name in RoundSettings.model_fields} | pipeline.texts()
    return pipeline, RoundSettings(**recorded | {"exclude": sorted(given["exclude"])})


def as_filter(shared_keys: str | Callable[[str], bool] | None) -> Callable[[str], bool] | None:
    """Says of a name whether it is shared; None: all are."""
    if not isinstance(shared_keys, str):
        return shared_keys
    patterns = [pattern.strip() for pattern in shared_keys.split(",") if pattern.strip()]
    return lambda name: any(fnmatchcase(name, pattern) for pattern in patterns)


def as_score_function(score_fn: ScoreFunction | None) -> ScoreFunction | None:
    """A probe that returns a number of Python's; what is no number is the worst of all scores."""
    if score_fn is None:
        return None

    def score(encoder: Encoder) -> float:
        value = float(score_fn(encoder))
        return value if math.isfinite(value) else -math.inf

    return score
