"""The strategy's arguments, checked and prepared.

An argument that is also a setting of a run has the setting's type and limits, which stand in `config.settings` alone.
"""

from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from coldfusion_fl.aggregation.pipeline import Pipeline, check_blend
from coldfusion_fl.config.parsing import check_value
from coldfusion_fl.config.schema import SettingsTable
from coldfusion_fl.config.settings import EvaluateSettings, ServerSettings, Settings
from coldfusion_fl.errors import SettingsError
from coldfusion_fl.runs.records import RoundSettings

# Arguments whose name differs from the setting's. `min_available_nodes` is no setting of a run, which knows its tasks;
# it has the limits of `min_contributions`.
_OTHER_NAMES: Mapping[str, tuple[type[SettingsTable], str]] = {
    "evaluate_every": (EvaluateSettings, "every"),
    "min_available_nodes": (Settings, "min_contributions"),
}
_COLLECTIONS = ("exclude", "awaited_names")
_FRACTIONS = ("fraction_train", "fraction_evaluate")
_NUMBERS_OF_NODES = ("min_train_nodes", "min_evaluate_nodes")
_FUNCTIONS = ("score_fn", "train_metrics_aggr_fn", "evaluate_metrics_aggr_fn", "node_names")
CONTRIBUTOR_NAMES = ("none", "query", "metrics")


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
    _check_forms(given)
    for name, value in given.items():
        if (setting := setting_of(name)) and not _has_other_form(name, value):
            check_value(*setting, value, name)
    check_blend(given["ema"], given["blend"])
    keys = given["shared_keys"]
    if keys is not None and not callable(keys) and not (isinstance(keys, str) and keys):
        raise SettingsError(f"shared_keys must be patterns with commas between them, or a function, not {keys!r}.")
    if isinstance(given["ledger"], str | Path):
        raise SettingsError(f"ledger must be an opened run folder: Ledger.open({str(given['ledger'])!r}).")


def _check_forms(given: Mapping[str, Any]) -> None:
    """Check the arguments that are no settings of a run."""
    # A text is a collection of its letters, so that a forgotten list would pass every later check.
    for name in _COLLECTIONS:
        if isinstance(given[name], str):
            raise SettingsError(f"{name} must be a list of names, not the text {given[name]!r}.")
    if given["screening"] is None:
        raise SettingsError('screening must be a text or a list of rules; "" is no rule.')
    for name in _FRACTIONS:
        fraction = given[name]
        if fraction is not None and not (isinstance(fraction, int | float) and 0 <= fraction <= 1):
            raise SettingsError(f"{name} must be a number from 0 to 1, but is {fraction!r}.")
    for name in _NUMBERS_OF_NODES:
        if given[name] is not None and (not isinstance(given[name], int) or given[name] < 0):
            raise SettingsError(f"{name} must be a whole number, at least 0, but is {given[name]!r}.")
    if given["contributor_names"] not in CONTRIBUTOR_NAMES:
        known = ", ".join(CONTRIBUTOR_NAMES)
        raise SettingsError(f"contributor_names must be one of {known}, but is {given['contributor_names']!r}.")
    for name in _FUNCTIONS:
        if given[name] is not None and not callable(given[name]):
            raise SettingsError(f"{name} must be a function, not {given[name]!r}.")


def _has_other_form(name: str, value: Any) -> bool:
    """Whether an argument has a form that a setting in a file cannot have."""
    if name in ("fusion", "server_optimizer", "screening"):  # objects; `Pipeline.parse` checks them
        return not isinstance(value, str)
    return (name in ("rollback", "min_contributions") and value is None) or (
        name == "exclude" and isinstance(value, set | frozenset)
    )


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
    pipeline = pipeline.weighted_by(given["weighted_by_key"])
    fewest = given["min_contributions"] or default_min_contributions(given["min_train_nodes"])
    _check_pipeline(pipeline, given, fewest)
    recorded = {name: given[name] for name in RoundSettings.model_fields} | {
        "screening": [str(rule) for rule in pipeline.screening],
        "fusion": str(pipeline.fusion),
        "server_optimizer": str(pipeline.server_optimizer),
        "exclude": sorted(given["exclude"]),
        "min_contributions": fewest,
    }
    return pipeline, RoundSettings(**recorded)


def _check_pipeline(pipeline: Pipeline, given: Mapping[str, Any], min_contributions: int) -> None:
    """Check that the components work together; the message names arguments, where the settings of a run have dashes."""
    sampled = given["contributors_per_round"]
    if given["fraction_train"] is not None:  # the number of nodes is not known yet
        sampled = max(sampled, min_contributions)
    try:
        pipeline.check(
            sampled,
            min_contributions,
            has_score_function=given["score_fn"] is not None,
            has_rollback=given["rollback"] is not None,
        )
    except SettingsError as conflict:
        message = str(conflict)
        for name in given:
            message = message.replace(name.replace("_", "-"), name)
        raise SettingsError(message, conflict.code) from None


def default_min_contributions(min_train_nodes: int | None) -> int:
    """The contributions that a round needs: two, or one in a project that trains with one node."""
    return 1 if min_train_nodes == 1 else 2


def as_filter(shared_keys: str | Callable[[str], bool] | None) -> Callable[[str], bool] | None:
    """A function that tells whether an array with this name is shared; None: all arrays are shared."""
    if not isinstance(shared_keys, str):
        return shared_keys
    patterns = [pattern.strip() for pattern in shared_keys.split(",") if pattern.strip()]
    return lambda name: any(fnmatchcase(name, pattern) for pattern in patterns)
