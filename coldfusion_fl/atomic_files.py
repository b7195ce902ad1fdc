"""Writing what must not be lost or half-written: aside, synced, then renamed."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from coldfusion_fl.errors import RunFolderError

_PARTIAL = ".partial"
_CHUNK = 1 << 20
_MOMENT = 0.5  # seconds


@contextlib.contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """A path beside the target to write a file or folder at; it is synced and takes the target's name when it is whole.

    Whatever ends the writing before, the target is as it was.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}{_PARTIAL}")
    remove(temporary)
    try:
        yield temporary
        for path in [*temporary.rglob("*"), temporary]:
            _sync(path)
        if target.is_dir():
            remove(target)
        temporary.replace(target)
        _sync(target.parent)
    finally:
        remove(temporary)


@contextlib.contextmanager
def exclusive_lock(folder: Path, taken: str) -> Iterator[None]:
    """Be the only one at a folder; the lock goes with the process, however it ends.

    Raises:
        RunFolderError: another one is, as `taken` says.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Who only looks whether somebody is here is here for a moment itself.
        deadline = time.monotonic() + _MOMENT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RunFolderError(f"{folder}: {taken}") from None
                time.sleep(_MOMENT / 20)
        yield
    finally:
        os.close(descriptor)


def is_partial(path: Path) -> bool:
    """Whether a writer that was killed left this half-written."""
    return path.name.startswith(".") and path.name.endswith(_PARTIAL)


def remove_partial(folder: Path) -> None:
    """Remove what writers that were killed left half-written in a folder."""
    for path in filter(is_partial, folder.iterdir()):
        remove(path)


def write_json(target: Path, facts: Mapping[str, Any]) -> None:
    """Write a JSON file durably."""
    with atomic_write(target) as path:
        path.write_text(json.dumps(facts, indent=1), encoding="utf-8")


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn what a disk can do to a run into a message.

    Raises:
        RunFolderError: the disk is full, or does not take what was to be written in the block.
    """
    try:
        yield
    except OSError as failure:
        full = failure.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = "the disk is full. Free some space" if full else f"it cannot be written: {failure}. Mend that"
        raise RunFolderError(
            f"{folder}: {reason}. What was written before is intact; a run that is resumed goes on after its last "
            "whole round."
        ) from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
