"""Usual names of columns in tables of labelled texts."""

import re
from collections.abc import Collection, Sequence

_TEXTS = """
abstract article body caption comment content description doc document email headline hypothesis message passage post
premise prompt query question review sentence snippet statement subject summary text title transcript tweet utterance
"""
_LABELS = """
answer category class department emotion gold grade intent label labels outcome polarity priority rating score sentiment
similarity spam stance star stars tag target team topic toxicity type verdict y
"""
_IDS = "guid id idx index key nr number pk row rowid uid uuid"
TEXT_NAMES, LABEL_NAMES, _ID_NAMES = (frozenset(names.split()) for names in (_TEXTS, _LABELS, _IDS))
# The first and the second text of a pair.
_PAIRS = (
    ("premise", "hypothesis"),
    ("text", "text_pair"),
    ("question", "sentence"),
    ("question", "passage"),
    ("question", "context"),
    ("query", "document"),
    ("query", "passage"),
    ("claim", "evidence"),
)
# What stands before the numbers of columns without names.
GENERATED = "column"
_SECOND = {"1": "2", "a": "b"}


def match(name: str, usual: Collection[str]) -> int:
    """How well a column's name is one of the usual names: 2 as a whole, 1 as one of its words, else 0."""
    words = _words(name)
    if "".join(words) in usual:
        return 2
    return int(any(word in usual or word.rstrip("0123456789") in usual for word in words))


def is_usual_name(cell: str) -> bool:
    """Whether a cell is a usual name of a column, and nothing else; a letter may also be a class, such as y and n."""
    return len(cell) > 1 and cell.lower() in TEXT_NAMES | LABEL_NAMES | _ID_NAMES


def is_id(name: str) -> bool:
    """Whether a column's name says that it numbers the rows, as the unnamed column of pandas does."""
    words = _words(name)
    return not words or words[-1] in _ID_NAMES or words[0] == "unnamed"


def find_pair(names: Sequence[str]) -> tuple[str, str] | None:
    """Two columns whose names say that they are the texts of a pair, such as `sentence1` and `sentence2`."""
    by_key = {"_".join(_words(name)): name for name in names}
    for first, second in _PAIRS:
        if first in by_key and second in by_key:
            return by_key[first], by_key[second]
    for key, name in by_key.items():
        is_first = key[-1:] in _SECOND and key[:-1].rstrip("_") not in ("", GENERATED)
        if is_first and (other := by_key.get(key[:-1] + _SECOND[key[-1]])):
            return name, other
    return None


def _words(name: str) -> list[str]:
    """The words of a name in snake_case, camelCase or with spaces, in lower case."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)
    return [word.lower() for word in re.split(r"[\W_]+", parted) if word]
