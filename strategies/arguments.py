"""The strategy's arguments, checked and prepared.

An argument that is also a setting of a run has the setting's type and limits, which stand in `config.settings` alone.
"""

import math
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from coldfusion_fl.aggregation.pipeline import Pipeline, check_blend
from coldfusion_fl.aggregation.screening import ScoreFunction
from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.config.parsing import check_value
from coldfusion_fl.config.schema import SettingsTable
from coldfusion_fl.config.settings import EvaluateSettings, ServerSettings, Settings
from coldfusion_fl.errors import SettingsError
from coldfusion_fl.run.records import RoundSettings

# Arguments whose name differs from the setting's. `min_available_nodes` is no setting of a run, which knows its tasks;
# it has the limits of `min_contributions`.
_OTHER_NAMES: Mapping[str, tuple[type[SettingsTable], str]] = {
    "evaluate_every": (EvaluateSettings, "every"),
    "min_available_nodes": (Settings, "min_contributions"),
}


def setting_of(argument: str) -> tuple[type[SettingsTable], str] | None:
    """The settings class and the field whose type and limits an argument has; None if it is no setting."""
    if argument in _OTHER_NAMES:
        return _OTHER_NAMES[argument]
    tables: tuple[type[SettingsTable], ...] = (Settings, ServerSettings)
    return next(((table, argument) for table in tables if argument in table.model_fields), None)


def check_arguments(given: Mapping[str, Any]) -> None:
    """Check the arguments of the constructor, by name.

    Raises:
        SettingsError: an argument is of another type or out of range.
    """
    # A text is a collection of its letters, so that a forgotten list would pass every later check.
    for name in ("exclude", "awaited_names"):
        if isinstance(given[name], str):
            raise SettingsError(f"{name} must be a list of names, not the text {given[name]!r}.")
    if given["screening"] is None:
        raise SettingsError('screening must be a text or a list of rules; "" is no rule.')
    for name, value in given.items():
        if (setting := setting_of(name)) and not _has_other_form(name, value):
            check_value(*setting, value, name)
    check_blend(given["ema"], given["blend"])
    keys = given["shared_keys"]
    if keys is not None and not callable(keys) and not (isinstance(keys, str) and keys):
        raise SettingsError(f"shared_keys must be patterns with commas between them, or a function, not {keys!r}.")
    if given["score_fn"] is not None and not callable(given["score_fn"]):
        raise SettingsError(f"score_fn must be a function of an encoder (arrays by name), not {given['score_fn']!r}.")
    if isinstance(given["ledger"], str | Path):
        raise SettingsError(f"ledger must be an opened run folder: Ledger.open({str(given['ledger'])!r}).")


def _has_other_form(name: str, value: Any) -> bool:
    """Whether an argument has a form that a setting in a file cannot have."""
    if name in ("fusion", "server_optimizer", "screening"):  # objects; `Pipeline.parse` checks them
        return not isinstance(value, str)
    return (name == "rollback" and value is None) or (name == "exclude" and isinstance(value, set | frozenset))


def read_arguments(given: Mapping[str, Any]) -> tuple[Pipeline, RoundSettings]:
    """Check the arguments of the constructor, and make the pipeline and the recorded settings of them.

    Args:
        given: the arguments by name; `self` may be among them.

    Raises:
        SettingsError: an argument is of another type or out of range, a text names no component, or two arguments
            contradict each other.
    """
    check_arguments(given)
    pipeline = Pipeline.parse(given["screening"], given["fusion"], given["server_optimizer"])
    pipeline.check(
        given["contributors_per_round"],
        given["min_contributions"],
        has_score_function=given["score_fn"] is not None,
        has_rollback=given["rollback"] is not None,
    )
    recorded = {name: given[name] for name in RoundSettings.model_fields} | {
        "screening": [str(rule) for rule in pipeline.screening],
        "fusion": str(pipeline.fusion),
        "server_optimizer": str(pipeline.server_optimizer),
        "exclude": sorted(given["exclude"]),
    }
    return pipeline, RoundSettings(**recorded)


def as_filter(shared_keys: str | Callable[[str], bool] | None) -> Callable[[str], bool] | None:
    """A function that tells whether an array with this name is shared; None: all arrays are shared."""
    if not isinstance(shared_keys, str):
        return shared_keys
    patterns = [pattern.strip() for pattern in shared_keys.split(",") if pattern.strip()]
    return lambda name: any(fnmatchcase(name, pattern) for pattern in patterns)


def as_score_function(score_fn: ScoreFunction | None) -> ScoreFunction | None:
    """A score function that returns a Python float; a result that is not finite becomes the worst score, -inf."""
    if score_fn is None:
        return None

    def score(encoder: Encoder) -> float:
        value = float(score_fn(encoder))
        return value if math.isfinite(value) else -math.inf

    return score
