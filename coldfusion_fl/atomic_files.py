"""Writing files so that a crash neither loses nor half-writes them: to a temporary name, synced, then renamed."""

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

from coldfusion_fl.errors import ErrorCode, RunFolderError

_PARTIAL = ".partial"
_MOMENT = 0.5  # seconds
_RUN_LEFT = "What was written before is intact: a resumed run continues after its last complete round."


@contextlib.contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """Write a file or a folder at a temporary path; it is synced and renamed to the target when the block ends.

    If the block raises an exception or the process is killed, the target stays as it was.

    Args:
        target: the path of the finished file or folder. A folder with this name is replaced.

    Yields:
        The temporary path, in the target's folder.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}{_PARTIAL}")
    remove(temporary)
    try:
        yield temporary
        for path in [*temporary.rglob("*"), temporary]:
            _sync(path)
        _rename(temporary, target)
        _sync(target.parent)
    finally:
        remove(temporary)


def _rename(temporary: Path, target: Path) -> None:
    """Give a written file or folder its name.

    A rename replaces a file, but not a folder. So an old folder is renamed first: a reader finds all of the old one or
    all of the new one, or none for a moment. A process that is killed in this moment leaves the old one under its
    temporary name.
    """
    if not target.is_dir():
        temporary.replace(target)
        return
    old = target.with_name(f".{target.name}.{os.getpid()}.old{_PARTIAL}")
    target.replace(old)
    try:
        temporary.replace(target)
    except OSError:
        old.replace(target)
        raise
    remove(old)


@contextlib.contextmanager
def exclusive_lock(folder: Path, taken: str) -> Iterator[None]:
    """Hold a folder's lock. The system releases it when the process ends, also after SIGKILL.

    Args:
        folder: the folder to lock.
        taken: the error message if another process holds the lock.

    Raises:
        RunFolderError: another process holds the lock.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # A process that only tests the lock (`is_locked`) holds it for a moment: do not fail because of it.
        deadline = time.monotonic() + _MOMENT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise RunFolderError(f"{folder}: {taken}", code=ErrorCode.RUN_LOCKED) from None
                time.sleep(_MOMENT / 20)
        yield
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Whether a process holds a folder's lock."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # A shared lock: several processes may test at once, and each holds it for a moment.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def is_partial(path: Path) -> bool:
    """Whether this is the temporary file of a writer that was killed."""
    return path.name.startswith(".") and path.name.endswith(_PARTIAL)


def remove_partial(folder: Path) -> None:
    """Remove the temporary files in a folder that were left by killed writers."""
    for path in filter(is_partial, folder.iterdir()):
        remove(path)


def write_json(target: Path, facts: Mapping[str, Any]) -> None:
    """Write a JSON file atomically."""
    with atomic_write(target) as path:
        path.write_text(json.dumps(facts, indent=1), encoding="utf-8")


def remove(path: Path) -> None:
    """Remove a file or a folder, if it exists."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_private(file: Path, content: bytes) -> None:
    """Write a new file that only its owner can read. It is created with this mode, so others cannot read it in between.

    Raises:
        FileExistsError: the file exists.
    """
    file.touch(mode=0o600, exist_ok=False)
    file.write_bytes(content)


def share_weights(folder: Path, like: str) -> None:
    """Give the safetensors files in a folder the mode of another file in it: safetensors lets their owner alone read.

    Args:
        folder: the folder.
        like: the name of the other file, which was created with the mode that the system gives to new files.
    """
    for file in folder.glob("*.safetensors"):
        shutil.copymode(folder / like, file)


def move(folder: Path, target: Path) -> None:
    """Move a folder to a new path on the same disk, at once."""
    folder.replace(target)
    _sync(target.parent)
    _sync(folder.parent)


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def disk_errors(folder: Path, left: str = _RUN_LEFT) -> Iterator[None]:
    """Turn an `OSError` in the block into an error that says what to do.

    Args:
        folder: the folder that the block writes to.
        left: a sentence on what the failure has left.

    Raises:
        RunFolderError: the disk is full, or a file cannot be written.
    """
    try:
        yield
    except OSError as failure:
        is_full = failure.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = (
            "the disk is full. Free some space"
            if is_full
            else f"writing failed: {failure}. Check the permissions and the disk"
        )
        raise RunFolderError(
            f"{folder}: {reason}. {left}",
            code=ErrorCode.DISK_FULL if is_full else ErrorCode.DISK_ERROR,
        ) from None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
