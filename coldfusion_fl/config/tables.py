"""Nested tables of settings, as TOML has them, and their flat form, as Flower's run-config has them."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel

from coldfusion_fl.errors import SettingsError


def dashed(name: str) -> str:
    """A Python name as a key of a file: with dashes instead of underscores."""
    return name.replace("_", "-")


def to_table(settings: BaseModel) -> dict[str, Any]:
    """The nested tables that these settings can be parsed from again; keys have dashes, and tuples become lists."""
    return settings.model_dump(mode="json", by_alias=True)


def merged(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of nested tables in which the entries of `changes` replace those of `table`."""
    result = dict(table)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one table with dots in the keys: the form of Flower's run-config and messages.

    A list becomes a text with commas between its items, because Flower's records hold no lists of texts.
    """
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            flat[prefix + key] = join_names(value)
        else:
            flat[prefix + key] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`; lists stay texts, which `split_names` splits."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *path, last = key.split(".")
        place = nested
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return nested


def join_names(names: Iterable[Any]) -> str:
    """Names as one text that `split_names` splits again."""
    return ", ".join(str(name).replace(",", "\\,") for name in names)


def split_names(text: str) -> tuple[str, ...]:
    r"""The names in a text, separated by commas or line breaks; a comma inside a name is written `\,`."""
    parts = (part.strip().replace("\\,", ",") for part in re.split(r"(?<!\\)[,\n]", text))
    return tuple(part for part in parts if part)


def as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they will be read again.

    Raises:
        SettingsError: they hold a value that JSON cannot express.
    """
    try:
        table: dict[str, Any] = json.loads(json.dumps(settings))
    except (TypeError, ValueError) as wrong:
        raise SettingsError(
            f"the settings of a run folder must be texts, numbers, lists and tables: {wrong}."
        ) from None
    return table


def frozen_part(table: Mapping[str, Any]) -> Any:
    """What a run's settings freeze, as nested tables: a run may be older than the setting, and then froze nothing."""
    return table.get("finetune", {}).get("freeze", "nothing")
