"""What others say, made fit for logs and terminals."""


def sanitize(said: object) -> str:
    """Words of others without what would move a terminal's cursor or break a line."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(said))
