"""Texts of other people as Markdown that shows them as they are."""

import re

# What Markdown takes for markup in a sentence or in a cell of a table.
_MARKUP = re.compile(r"[\\`*\[\]<>|~$&#]|(?<![^\W_])_|_(?![^\W_])")


def as_text(text: str) -> str:
    """A text on one line, with its markup escaped."""
    return _MARKUP.sub(r"\\\g<0>", " ".join(text.split()))


def as_code(text: str) -> str:
    """A text as a code span; its fence is longer than any row of backticks in the text."""
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if "`" in text else ""
    return f"{fence}{space}{text}{space}{fence}"
