"""Links in a model folder of another party: none may lead out of the folder."""

import os
from collections.abc import Iterator
from pathlib import Path

from coldfusion_fl.errors import ErrorCode, ModelError

_SNAPSHOTS, _BLOBS = "snapshots", "blobs"


def check_links(folder: Path, reference: str) -> None:
    """Check that no link in a folder leads out of it: what is read from a model folder is copied, sent and published.

    The folder itself may be a link. In the cache of the Hub, a snapshot is made of links into the folder `blobs` of its
    model. A link that leads nowhere is not followed, so it may stay.

    Args:
        folder: the model folder.
        reference: the folder as the user wrote it, for messages.

    Raises:
        ModelError: a link leads out of the folder; the message names it.
    """
    root = folder.resolve()
    places = [root, *_blobs(root)]
    for link in _links(root):
        target = link.resolve()
        if target.exists() and not any(target.is_relative_to(place) for place in places):
            raise ModelError(
                f"{reference}: {link.relative_to(root)} is a link to {link.readlink()}, which is outside of the model "
                "folder. Such a link is not followed. If the file belongs to the model, copy it there in place of the "
                "link. If not, remove the link.",
                ErrorCode.MODEL_LINK,
            )


def _blobs(root: Path) -> list[Path]:
    """The folder `blobs` of the snapshot that a folder is in; empty outside of a cache of the Hub."""
    snapshot = next((path for path in (root, *root.parents) if path.parent.name == _SNAPSHOTS), None)
    return [snapshot.parent.parent / _BLOBS] if snapshot else []


def _links(root: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(root):
        for name in sorted([*folders, *names]):
            if (path := Path(parent, name)).is_symlink():
                yield path
