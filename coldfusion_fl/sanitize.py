"""Text from other parties, made safe for logs, terminals and spreadsheets."""

from typing import Any

# A spreadsheet takes a cell that begins like this for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def sanitize(text: object) -> str:
    """Replace each unprintable character by `?`, so that a text cannot break a line or move a terminal's cursor.

    `str.isprintable` decides which characters are printable. Rich's and Click's own functions remove only ANSI escape
    sequences, and would leave line breaks.
    """
    return "".join(character if character.isprintable() else "?" for character in str(text))


def neutralize_formula(cell: Any) -> Any:
    """A cell of a CSV file that no spreadsheet takes for a formula; numbers stay numbers."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
