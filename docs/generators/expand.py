"""The parts of pages that are generated from the code, and the files of the repository that pages include.

A page has a comment, `<!-- generated: NAME -->`, in the place of each generated part, and a line `--8<-- "PATH"`, as in
the extension pymdownx.snippets, in the place of a file.
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import catalogue_parts
import error_parts
import event_parts
import notebook_parts
import operator_parts
import run_folder_parts
import settings_parts

PARTS: Mapping[str, Callable[[], str]] = {
    **settings_parts.PARTS,
    **catalogue_parts.PARTS,
    **operator_parts.PARTS,
    **error_parts.PARTS,
    **event_parts.PARTS,
    **notebook_parts.PARTS,
    **run_folder_parts.PARTS,
}
ROOT = Path(__file__).parents[2]
INCLUDED = re.compile(r'^--8<-- "(.+?)"$', re.MULTILINE)
MARKER = re.compile(r"^<!-- generated: (.+?) -->$", re.MULTILINE)


def expand(text: str) -> str:
    """A page's text with all generated parts and included files.

    Raises:
        KeyError: a comment names a part that does not exist.
        FileNotFoundError: a line names a file that does not exist.
    """
    text = INCLUDED.sub(lambda found: (ROOT / found[1]).read_text(encoding="utf-8").rstrip(), text)
    return MARKER.sub(lambda found: _part(found[1]), text)


@cache
def _part(name: str) -> str:
    return PARTS[name]()
