"""The parts of model cards: the header, licences, and texts of other parties in Markdown."""

import re
from collections.abc import Mapping
from typing import Any

from huggingface_hub.repocard import ModelCardData

# What Markdown takes for markup in a sentence or in a cell of a table.
_MARKUP = re.compile(r"[\\`*\[\]<>|~$&#]|(?<![^\W_])_|_(?![^\W_])")


def write_header(**values: Any) -> str:
    """The YAML header of a model card, without its fences."""
    return str(ModelCardData(library_name="transformers", **values).to_yaml())


def licence_text(licence: Mapping[str, Any]) -> str:
    """The names of a licence that `export.read_licence` returned, with commas between them; empty: none is known."""
    names = licence.get("license", "")
    return names if isinstance(names, str) else ", ".join(map(str, names))


def as_text(text: str) -> str:
    """A text as Markdown that shows it as it is."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def as_code(text: str) -> str:
    """A text as a code span; its fence is longer than any row of backticks in the text."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"
