"""Components of the server by name: `ties(density=0.2)`.

Operators, server optimizers and screening rules are small frozen tables of settings. A text stands for each of them: in
a TOML file, in Flower's run-config (which has no nested tables) and in an argument of the strategy.
"""

import ast
import keyword
import re
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from coldfusion_fl.config.messages import did_you_mean
from coldfusion_fl.config.parsing import parse_table
from coldfusion_fl.config.schema import SettingsTable
from coldfusion_fl.errors import ErrorCode, SettingsError

# A name with dashes, such as `beta-1`. The `e-5` of `1e-5` is none.
_NAME = re.compile(r"(?<![\w.])[^\W\d]\w*(?:-\w+)*")


class Component(SettingsTable):
    """Base class of operators, server optimizers, rules and attacks: a table of settings with a name and a text.

    Raises:
        SettingsError: a parameter is unknown, of another type or out of range.
    """

    name: ClassVar[str]

    def __str__(self) -> str:
        values = {field.alias: getattr(self, name) for name, field in type(self).model_fields.items()}
        written = ", ".join(f"{key}={_format_value(value)}" for key, value in values.items())
        return f"{self.name}({written})" if written else self.name


_Component = TypeVar("_Component", bound=Component)


def parse_component(text: str, known: Mapping[str, type[_Component]], what: str) -> _Component:
    """Make a component of its text.

    Args:
        text: a name, with its parameters in brackets if they differ from the defaults: `ties(density=0.2, scale=1)`.
            Names may have dashes; a text value needs quotes unless it is a name.
        known: the available components by name.
        what: what the text is for, for messages: `fusion`, `server-optimizer` or `screening`.

    Raises:
        SettingsError: the name or a parameter is unknown (the known ones are listed), or a value is out of range.
    """
    components = parse_components(text, known, what)
    if len(components) != 1:
        raise _invalid(f"{what} = {text!r}: write one name and its parameters, such as 'name(key=value)'.")
    return components[0]


def parse_components(text: str, known: Mapping[str, type[_Component]], what: str) -> tuple[_Component, ...]:
    """Make the components of a text that lists them with commas between them.

    Raises:
        SettingsError: as `parse_component`.
    """
    source = f"[{text}]"
    try:
        # Python's names have no dashes. One underscore for one dash keeps all positions, so that names and values can
        # be read from the text itself.
        tree = ast.parse(_NAME.sub(lambda name: name[0].replace("-", "_"), source), mode="eval").body
    except (SyntaxError, ValueError):
        tree = None
    if not isinstance(tree, ast.List):
        raise _invalid(f"{what} = {text!r}: write a name and its parameters, such as 'name(key=value)'.")
    return tuple(_component(node, source, known, what) for node in tree.elts)


def as_component(given: str | _Component, known: Mapping[str, type[_Component]], what: str) -> _Component:
    """A component that is given as an object or as its text.

    Raises:
        SettingsError: as `parse_component`; or it is neither an object nor a text.
    """
    if isinstance(given, str):
        return parse_component(given, known, what)
    if not isinstance(given, Component):
        raise _invalid(f"{what} must be an object or a text, such as '{next(iter(known))}', but is {given!r}.")
    return given


def as_components(
    given: str | Sequence[str | _Component], known: Mapping[str, type[_Component]], what: str
) -> tuple[_Component, ...]:
    """Components that are given as one text, or as a list of objects and texts.

    Raises:
        SettingsError: as `as_component`.
    """
    if isinstance(given, str):
        return parse_components(given, known, what)
    return tuple(as_component(one, known, what) for one in given)


def _component(node: ast.expr, source: str, known: Mapping[str, type[_Component]], what: str) -> _Component:
    """The component that one expression of a text stands for: a name, or a call with keyword arguments."""
    text = _segment(source, node)
    # A name alone is a call without arguments. Nothing is evaluated: only literals become values.
    call = node if isinstance(node, ast.Call) else ast.Call(func=node, args=[], keywords=[])
    if not isinstance(call.func, ast.Name):
        raise _invalid(f"{what} = {text!r}: write a name and its parameters, such as 'name(key=value)'.")
    name = call.func.id.lower().replace("_", "-")
    if name not in known:
        suggestion = did_you_mean(name, known)
        listed = "" if "Available:" in suggestion else f" Available: {', '.join(sorted(known))}."
        raise SettingsError(f"{what}: unknown name '{name}'.{suggestion}{listed}", ErrorCode.COMPONENT_UNKNOWN)
    table = _parameters(call, source, what)
    if table and not known[name].model_fields:
        raise _invalid(f"{what} = {text!r}: {name} has no parameters.")
    try:
        return parse_table(known[name], table, what, f"{name}.")
    except SettingsError as error:
        raise _invalid(str(error)) from None


def _parameters(call: ast.Call, source: str, what: str) -> dict[str, Any]:
    """The keyword arguments of a call, by names with dashes."""
    text = _segment(source, call) if call.args or call.keywords else ""
    if call.args:
        raise _invalid(f"{what} = {text!r}: '{_segment(source, call.args[0])}' has no name. Write key=value.")
    table: dict[str, Any] = {}
    for argument in call.keywords:
        if argument.arg is None:  # **mapping
            raise _invalid(f"{what} = {text!r}: write each parameter as key=value.")
        key = argument.arg.replace("_", "-")
        if key in table:
            raise _invalid(f"{what} = {text!r}: '{key}' is given twice.")
        table[key] = _value(argument.value, source, what)
    return table


def _value(node: ast.expr, source: str, what: str) -> Any:
    """A number, a text in quotes, or a name without quotes, which is a text too."""
    text = _segment(source, node)
    if isinstance(node, ast.Name):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise _invalid(f"{what}: {text} is not a number, a name or a quoted text. Put quotes around a text.") from None


def _segment(source: str, node: ast.expr) -> str:
    return ast.get_source_segment(source, node) or ""


def _format_value(value: Any) -> str:
    """A value such that the component's text can be parsed to the same component again."""
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else str(value)
    if isinstance(value, str):
        is_name = _NAME.fullmatch(value) and value.replace("-", "_").isidentifier() and not keyword.iskeyword(value)
        return value if is_name else repr(value)
    return str(value)


def _invalid(message: str) -> SettingsError:
    return SettingsError(message, ErrorCode.COMPONENT_INVALID)
