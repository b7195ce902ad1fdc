"""The entries of settings in the reference: one heading a setting, so that a search for its key finds it."""

from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from coldfusion_fl.config.commented_toml import nested_table as nested
from coldfusion_fl.config.commented_toml import toml_value
from coldfusion_fl.config.description import describe_values

# More rows of an entry: label and text.
MoreRows = Callable[[str, FieldInfo], Iterator[tuple[str, str]]]


def entries(kind: type[BaseModel], prefix: str = "", more: MoreRows | None = None) -> Iterator[str]:
    """An overview of the settings of one table, then an entry for each; nested tables are left out.

    Args:
        kind: the settings class.
        prefix: what stands before a key in its full key, such as `server.`.
        more: further rows of an entry, by full key and field.
    """
    fields = own_fields(kind)
    yield "| key | default | |\n|---|---|---|\n" + "\n".join(
        f"| [`{key}`](#{anchor(prefix + key)}) | {_default(field)} | {cell(field.description or '')} |"
        for key, field in fields.items()
    )
    for key, field in fields.items():
        rows = [("values", f"{describe_values(field)}"), *(more(prefix + key, field) if more else ())]
        table = "\n".join(f"| {label} | {cell(text)} |" for label, text in rows)
        yield f"#### `{key}` {{ #{anchor(prefix + key)} }}\n\n{field.description}\n\n| | |\n|---|---|\n{table}"


def own_fields(kind: type[BaseModel]) -> dict[str, FieldInfo]:
    """The settings of one table by key, without nested tables."""
    return {field.alias or name: field for name, field in kind.model_fields.items() if not nested(field)}


def example(field: FieldInfo) -> Any:
    """A value that the setting can have: its example, or its default where that says something."""
    if field.examples:
        return field.examples[0]
    if get_origin(field.annotation) is Literal:
        return get_args(field.annotation)[-1]
    default = field.get_default(call_default_factory=True)
    return list(default) if isinstance(default, tuple) else default


def anchor(key: str) -> str:
    """The anchor of a setting: `server.keep-last` is at `#server-keep-last`."""
    return key.replace(".", "-").lower()


def cell(text: str) -> str:
    """A text in a cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    return f"`{toml_value(list(default) if isinstance(default, tuple) else default)}`"
