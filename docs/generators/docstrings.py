"""The texts of docstrings: paragraphs, and the sentences about attributes."""

import inspect
from typing import Any

from griffe import Docstring, DocstringSectionKind, Parser


def paragraphs(thing: Any) -> str:
    """The text of a class's own docstring as Markdown, without its sections."""
    sections = Docstring(inspect.cleandoc(thing.__doc__ or "")).parse(Parser.google, warnings=False)
    return "\n\n".join(section.value for section in sections if section.kind is DocstringSectionKind.text)


def attributes(kind: type) -> dict[str, str]:
    """The sentences about the attributes of a class and of its base classes, by name."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        docstring = Docstring(inspect.cleandoc(vars(base).get("__doc__") or ""))
        for section in docstring.parse(Parser.google, warnings=False):
            if section.kind is DocstringSectionKind.attributes:
                found |= {one.name: " ".join(one.description.split()) for one in section.value}
    return found


def as_sentence(clause: str) -> str:
    """A clause with a capital letter and a full stop."""
    text = clause.strip()
    first = text if text.startswith("`") else text[:1].upper() + text[1:]
    return first if first.endswith((".", ":")) else f"{first}."
