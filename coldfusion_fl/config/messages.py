"""Messages about wrong settings: pydantic's validation errors as `SettingsError`, with the nearest known name."""

import difflib
from collections.abc import Collection, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from coldfusion_fl.errors import ErrorCode, SettingsError

# What a value must be, by the type of pydantic's error; the names in braces are in the error's context.
_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a text in quotes",
    "bool_type": "true or false",
    "dict_type": "a table",
    "finite_number": "a finite number",
    "greater_than": "above {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "below {lt}",
    "less_than_equal": "at most {le}",
    "literal_error": "one of {expected}",
    "string_pattern_mismatch": "a text like {pattern}",
}


def settings_error(
    error: ValidationError, kind: type[BaseModel], source: str, where: str = "", beside: Collection[str] = ()
) -> SettingsError:
    """Translate pydantic's error about a table.

    Args:
        error: raised while the table was validated.
        kind: the settings class of the table.
        source: the file or other place that the table comes from; the message begins with it.
        where: what stands before the table's keys, such as `server.`.
        beside: further keys that may stand in the table, for the suggestion of a misspelt one.

    Returns:
        The error of the first wrong setting, with its full key, the limit and the value.
    """
    details = error.errors(include_url=False)
    # An unknown key comes first: a misspelt key is often the reason why another one is missing.
    detail = min(details, key=lambda one: one["type"] != "extra_forbidden")
    path = [str(part) for part in detail["loc"]]
    key = where + ".".join(path)
    if detail["type"] == "extra_forbidden":
        known = [*_known_keys(kind, path[:-1]), *(() if path[:-1] else beside)]
        suggestion = did_you_mean(path[-1], known)
        return SettingsError(f"{source}: unknown setting '{key}'.{suggestion}", ErrorCode.SETTING_UNKNOWN)
    if detail["type"] == "missing":
        return SettingsError(f"{source}: the setting '{key}' is missing.", ErrorCode.SETTING_MISSING)
    if detail["type"] == "model_type":
        return SettingsError(f"{source}: '{key}' is a table: write [{key}] and its settings below.")
    return SettingsError(f"{source}: '{key}' {requirement(detail)}.")


def requirement(detail: Any) -> str:
    """What one of pydantic's error details requires of a value, and the value: `must be above 0, but is -1`."""
    context = detail.get("ctx", {})
    value = detail["input"]
    if expected := _EXPECTED.get(detail["type"]):
        limits = {name: _format_limit(limit) for name, limit in context.items()}
        return f"must be {expected.format(**limits)}, but is {value!r}"
    if "error" in context:  # a ValueError of our own validators
        return f"{context['error']}, but is {value!r}"
    return f"is not valid: {detail['msg']}; it is {value!r}"


def did_you_mean(word: str, known: Collection[str]) -> str:
    """A sentence that names the most similar known word, or all known words if none is similar."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f" Did you mean '{near[0]}'?" if near else f" Available: {', '.join(names) or 'none'}."


def _known_keys(kind: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys of the table at a path of keys."""
    table: Any = kind
    for part in path:
        table = next(field.annotation for name, field in table.model_fields.items() if part in (name, field.alias))
    return [field.alias or name for name, field in table.model_fields.items()]


def _format_limit(limit: Any) -> Any:
    """A limit as the schema has it: pydantic reports 0 as 0.0, and a list of texts as `'a', 'b' or 'c'`."""
    if isinstance(limit, str):
        return limit.replace(" or ", ", ").replace("'", "")
    return int(limit) if isinstance(limit, float) and limit.is_integer() else limit
