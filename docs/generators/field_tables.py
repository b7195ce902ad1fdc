"""Tables of the fields of what is written as JSON: name, type and sentence."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from docstrings import as_sentence, attributes
from pydantic import BaseModel
from setting_entries import cell

from coldfusion_fl.runs.records import MetricValue

_TYPES: Mapping[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    MetricValue: "list or number",
}


def field_table(kind: type[BaseModel], without: Collection[str] = ()) -> str:
    """The fields of a class, with the sentences of its docstring."""
    sentences = attributes(kind)
    fields = {name: field for name, field in kind.model_fields.items() if name not in without}
    rows = "\n".join(
        f"| `{field.alias or name}` | {cell(describe_type(field.annotation))} | {as_sentence(sentences[name])} |"
        for name, field in fields.items()
    )
    return f"| key | type | |\n|---|---|---|\n{rows}"


def describe_type(annotation: Any) -> str:
    """The type of a field in words."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if annotation in _TYPES:
        return _TYPES[annotation]
    inner = get_args(annotation)
    if type(None) in inner:
        return f"{describe_type(inner[0])}, or none"
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(f"`{one}`" for one in inner)
    if get_origin(annotation) is list:
        return f"list of {_plural(inner[0])}"
    if get_origin(annotation) is dict:
        return f"{_plural(inner[1])} by name"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        keys = ", ".join(f"`{field.alias or name}`" for name, field in annotation.model_fields.items())
        return f"object with {keys}"
    raise TypeError(f"this type has no words yet: {annotation}")


def _plural(annotation: Any) -> str:
    """The type of several values in words."""
    text = describe_type(annotation)
    return text.replace("object with", "objects with") if text.startswith("object") else f"{text}s"
