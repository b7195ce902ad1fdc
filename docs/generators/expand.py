"""The parts of pages that are generated from the code.

A page has a comment, `<!-- generated: NAME -->`, in the place of each such part.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache

import catalogue_parts
import error_parts
import event_parts
import operator_parts
import run_folder_parts
import settings_parts

PARTS: Mapping[str, Callable[[], str]] = {
    **settings_parts.PARTS,
    **catalogue_parts.PARTS,
    **operator_parts.PARTS,
    **error_parts.PARTS,
    **event_parts.PARTS,
    **run_folder_parts.PARTS,
}
MARKER = re.compile(r"^<!-- generated: (.+?) -->$", re.MULTILINE)


def expand(text: str) -> str:
    """A page's text with all generated parts.

    Raises:
        KeyError: a comment names a part that does not exist.
    """
    return MARKER.sub(lambda found: _part(found[1]), text)


@cache
def _part(name: str) -> str:
    return PARTS[name]()
