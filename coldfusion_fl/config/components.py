"""The server's parts by name: `ties(density=0.2)`.

Operators, steps and screening rules are small frozen dataclasses. As text they stand in a TOML file, in Flower's
run-config (which knows no nested tables) and in a constructor's argument alike.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar, get_origin, get_type_hints

from coldfusion_fl.config.settings import check_value, did_you_mean, parse_table
from coldfusion_fl.errors import SettingsError

_PART = re.compile(r"\s*([a-z][a-z0-9_-]*)\s*(?:\((.*)\))?\s*", re.DOTALL | re.IGNORECASE)
_OUTER_COMMA = re.compile(r",(?![^(]*\))")


class Component:
    """Base of operators, steps and rules: checks its fields, and is spelt as text.

    Raises:
        SettingsError: a field is of another type or out of range.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        types = get_type_hints(type(self))
        for spec in dataclasses.fields(self):  # type: ignore[arg-type]
            where = f"{self.name}: '{spec.name.replace('_', '-')}'"
            value = check_value(getattr(self, spec.name), types[spec.name], spec, where)
            object.__setattr__(self, spec.name, value)  # frozen: a text of names has become names

    def __str__(self) -> str:
        values = {spec.name: getattr(self, spec.name) for spec in dataclasses.fields(self)}  # type: ignore[arg-type]
        written = ", ".join(
            f"{key.replace('_', '-')}={_format_value(v)}" for key, v in values.items() if v not in ("", {}, ())
        )
        return f"{self.name}({written})" if written else self.name


P = TypeVar("P", bound=Component)


def parse_component(text: str, known: Mapping[str, type[P]], what: str) -> P:
    """Make a part of its text.

    Args:
        text: a name, with parameters in brackets where they are not the defaults: `ties(density=0.2, scale=1)`.
        known: the parts there are, by name.
        what: what the text is for, to be named in errors: `fusion`, `step` or `screening`.

    Raises:
        SettingsError: the name or a parameter is unknown (the known ones are listed), or a value is out of range.
    """
    match = _PART.fullmatch(text)
    if not match:
        raise SettingsError(f"{what} = {text!r}: write a name and its parameters, such as 'name(key=value)'.")
    name, inside = match[1].lower().replace("_", "-"), match[2]
    if name not in known:
        near = did_you_mean(name, known).strip()
        listed = "" if near.startswith("Known") else f" Known are: {', '.join(sorted(known))}."
        raise SettingsError(f"{what}: there is no '{name}'. {near}{listed}")
    types = {key.replace("_", "-"): kind for key, kind in get_type_hints(known[name]).items()}
    table = {}
    for argument in filter(None, (part.strip() for part in (inside or "").split(","))):
        key, equals, value = (side.strip() for side in argument.partition("="))
        if not equals or not key or not value:
            raise SettingsError(
                f"{what} = {text!r}: '{argument}' is no parameter; write key=value, and several names with spaces."
            )
        key = key.replace("_", "-")
        if not dataclasses.fields(known[name]):  # type: ignore[arg-type]
            raise SettingsError(f"{what} = {text!r}: {name} has no parameters.")
        if key in table:
            raise SettingsError(f"{what} = {text!r}: '{key}' is given twice.")
        table[key] = _value(value, types.get(key))
    return parse_table(known[name], table, what, f"{name}.")


def parse_components(text: str, known: Mapping[str, type[P]], what: str) -> tuple[P, ...]:
    """Make the parts of a text that lists them with commas between.

    Raises:
        SettingsError: as `parse_component`.
    """
    return tuple(parse_component(piece, known, what) for piece in _OUTER_COMMA.split(text) if piece.strip())


def as_component(given: str | P, known: Mapping[str, type[P]], what: str) -> P:
    """A part as it is, or made of its text.

    Raises:
        SettingsError: as `parse_component`; or it is neither.
    """
    if isinstance(given, str):
        return parse_component(given, known, what)
    if not isinstance(given, Component):
        raise SettingsError(f"{what}: {given!r} is no {what}. Write a text such as '{next(iter(known))}' or an object.")
    return given


def as_components(given: str | Sequence[str | P], known: Mapping[str, type[P]], what: str) -> tuple[P, ...]:
    """Parts as they are, or made of their texts."""
    if isinstance(given, str):
        return parse_components(given, known, what)
    return tuple(as_component(part, known, what) for part in given)


def _value(text: str, kind: Any) -> Any:
    """What a text says where a value of this kind is wanted: names `a b c`, a table `a:2 b:1`, a number, or itself."""
    if get_origin(kind) is tuple:
        return tuple(text.split())
    if get_origin(kind) is dict:
        pairs = (pair.rpartition(":") for pair in text.split())
        return {key: _value(number, float) for key, _, number in pairs}
    if kind is int and re.fullmatch(r"[+-]?[0-9]+", text):
        return int(text)
    try:
        return float(text) if kind in (int, float) else text
    except ValueError:
        return text


def _format_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{key}:{_format_value(number)}" for key, number in value.items())
    if isinstance(value, tuple):
        return " ".join(value)
    # Short where that is exact: a record's text must make the same part again.
    return f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else str(value)
