"""Links from pages to files of the repository.

A page links to a file outside docs/ by its path, `../experiments/README.md`, so that the link works in the repository
too. The site has a copy of each such file under `repository/`, and the links lead there.
"""

import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).parents[2]
# Files outside docs/ that are pages of the site.
PAGES: Mapping[str, str] = {"CONTRIBUTING.md": "contributing.md"}
COPIES = "repository"

# The target of a link or an image, in text or in a definition; not a title, an address or an anchor.
_TARGET = re.compile(r"(\]\(|^\[[^\]]+\]:\s*)(?![a-z]+:|#|/)([^)\s#]+)(#[^)\s]*)?", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|!?\[[^\]]*\])*)\]\((?![a-z]+:|#|/)([^)\s#]+)(#[^)\s]*)?\)")
_FENCED = re.compile(r"^(\s*)(```+|~~~+).*?^\1\2\s*$", re.MULTILINE | re.DOTALL)


def place_in_repository(page: str) -> str:
    """The path of a page's source in the repository.

    Args:
        page: the path of a page in the site's sources, such as `how-to/federation.md`.
    """
    for file, name in PAGES.items():
        if page == name:
            return file
    return page.removeprefix(f"{COPIES}/") if page.startswith(f"{COPIES}/") else f"docs/{page}"


def place_in_site(path: str) -> str:
    """The inverse of `place_in_repository`."""
    if path in PAGES:
        return PAGES[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{COPIES}/{path}"


def linked_files(page: str, text: str) -> Iterator[str]:
    """The files of the repository that a page links to, by their paths in it; folders stand for their README.md."""
    here = place_in_repository(page)
    for found in _TARGET.finditer(_FENCED.sub("", text)):
        if target := _resolve(here, found[2]):
            yield target


def rewrite_links(page: str, text: str) -> str:
    """A page's text, in which the links lead to the places of the linked files in the site.

    A link to a folder without a README.md or to a hidden file becomes plain text, because the site has neither. A link
    to a file that does not exist is left as it is, and MkDocs reports it.
    """
    here = place_in_repository(page)

    def without_link(found: re.Match[str]) -> str:
        there = (ROOT / _path(here, found[2])).exists()
        return found[1] if there and not _resolve(here, found[2]) else found[0]

    def rewritten(found: re.Match[str]) -> str:
        target = _resolve(here, found[2])
        if not target:
            return found[0]
        link = posixpath.relpath(place_in_site(target), posixpath.dirname(page) or ".")
        return f"{found[1]}{link}{found[3] or ''}"

    # Blocks of code are left alone.
    parts, end = [], 0
    for block in _FENCED.finditer(text):
        parts += [_TARGET.sub(rewritten, _LINK.sub(without_link, text[end : block.start()])), block[0]]
        end = block.end()
    return "".join(parts) + _TARGET.sub(rewritten, _LINK.sub(without_link, text[end:]))


def _path(here: str, target: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(here), unquote(target)))


def _resolve(here: str, target: str) -> str | None:
    """The file of the repository that a link in the file `here` leads to; None if there is none."""
    path = _path(here, target)
    if path.startswith(".."):
        return None
    if (ROOT / path).is_dir():
        path = posixpath.join(path, "README.md")
    is_hidden = any(part.startswith(".") for part in path.split("/"))  # MkDocs leaves such files out
    return path if (ROOT / path).is_file() and not is_hidden else None
