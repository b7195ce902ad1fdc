"""Describe all settings: the text of `coldfusion settings`."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_TYPES: Mapping[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    tuple[str, ...]: "list of names",
    tuple[int, ...]: "list of whole numbers",
}
_LIMITS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def format_settings(kind: type[BaseModel], width: int = 100) -> str:
    """All settings of a class, table by table, with type, limits, default and sentence.

    Args:
        kind: the settings class.
        width: of the lines, in characters.
    """
    return "\n\n".join(_format_table(kind, "", width))


def _format_table(kind: type[BaseModel], table: str, width: int) -> Iterator[str]:
    """The settings of one table, then its nested tables: the order in which a TOML file must have them."""
    nested = {}
    for name, field in kind.model_fields.items():
        key = field.alias or name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            nested[f"{table}{key}"] = field
            continue
        sentence = textwrap.fill(field.description or "", width, initial_indent="    ", subsequent_indent="    ")
        yield f"  {key}: {describe_values(field)}\n{sentence}"
    for key, field in nested.items():
        assert isinstance(field.annotation, type)
        yield f"[{key}]  {field.description or ''}"
        yield from _format_table(field.annotation, f"{key}.", width)


def describe_values(field: FieldInfo) -> str:
    """The type, the limits and the default of a setting: `number, at least 0, below 1; default 0.0`."""
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    parts = [f"one of {', '.join(choices)}" if choices else _TYPES.get(field.annotation, "table")]
    for limit in field.metadata:
        parts += [f"{word} {getattr(limit, name)}" for name, word in _LIMITS.items() if hasattr(limit, name)]
    default = field.get_default(call_default_factory=True)
    shown = "required" if field.is_required() else f"default {json.dumps(default)}"
    return f"{', '.join(parts)}; {shown}"
