"""Text from other parties, made safe for logs and terminals."""


def sanitize(text: object) -> str:
    """Replace each unprintable character by `?`, so that a text cannot break a line or move a terminal's cursor.

    `str.isprintable` decides which characters are printable. Rich's and Click's own functions remove only ANSI escape
    sequences, and would leave line breaks.
    """
    return "".join(character if character.isprintable() else "?" for character in str(text))
