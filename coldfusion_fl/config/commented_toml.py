"""Tables of settings as TOML, each setting with its sentence as a comment."""

import json
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_WIDTH = 110


def commented_lines(
    kind: type[BaseModel], table: Mapping[str, Any], remarks: Mapping[str, str], described: set[str]
) -> Iterator[str]:
    """The lines of one table: for each key its description as a comment, then the key and its value.

    Args:
        kind: the settings class, which has the descriptions.
        table: the values by key; nested tables are left out.
        remarks: what stands behind a value as a comment, by key.
        described: the keys whose description is not written again; the others are added.
    """
    fields = {field.alias or name: field for name, field in kind.model_fields.items()}
    extra = kind.model_json_schema().get("properties", {})  # keys that are no fields, such as `preset`
    for key, value in table.items():
        if key in fields and nested_table(fields[key]):
            continue
        if key not in described:
            described.add(key)
            description = fields[key].description if key in fields else extra[key]["description"]
            yield from comment(description or "")
        remark = f"  # {remarks[key]}" if key in remarks else ""
        yield f"{key} = {toml_value(value)}{remark}"


def comment(text: str) -> Iterator[str]:
    """A text as lines of comments."""
    for line in text.splitlines():
        yield from textwrap.wrap(line, _WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)


def nested_table(field: FieldInfo) -> type[BaseModel] | None:
    """The class of a nested table; None for a setting."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def toml_value(value: Any) -> str:
    """A value as TOML writes it on one line."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{toml_value(key)} = {toml_value(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    # The texts, numbers and booleans of JSON are those of TOML, except for this character, which must be escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_key(name: str) -> str:
    """A name as a key: in quotes unless it is a bare key."""
    is_bare = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
    return name if is_bare else toml_value(name)
