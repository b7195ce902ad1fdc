"""Scores on disk, between runs, by the key of what they depend on: see `score_key`.

A file has the score, and the labels and predictions of the test rows. It is written atomically and read without pickle.
Scores can be computed again, so no error of this folder ends anything: it is a warning, and the score is computed.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from coldfusion_fl.arrays.array_files import save_arrays
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.atomic_files import atomic_write, remove
from coldfusion_fl.evaluation.scores import Predictions, Score

# An absolute folder, in which the scores get a folder of their own; empty: no scores are kept.
VARIABLE = "COLDFUSION_CACHE"
# The most files, and the most bytes of all files. Those that were used last stay.
_MAX_FILES, _MAX_BYTES = 1000, 2**28
_OWNER_ALONE = 0o700
# The name of a file, also of one that a killed writer has left.
_FILE = re.compile(r"\.?[0-9a-f]{64}\.safetensors(\.[0-9]+\.partial)?")
_LABELS, _PREDICTED = "labels", "predicted"
_SCORE, _SECONDS, _SHA256 = "score", "seconds", "sha256"


@dataclass(frozen=True)
class CachedScore:
    """A score, and what it was computed from.

    Attributes:
        score: the score.
        predictions: the labels and the predictions of the test rows.
        seconds: the time that it took to compute the score.
    """

    score: Score
    predictions: Predictions
    seconds: float


def score_cache_folder() -> Path | None:
    """The folder of the user's scores: in the user's cache, or as the environment says; None: no scores are kept."""
    if (named := os.environ.get(VARIABLE)) is not None:
        return Path(named) / "scores" if Path(named).is_absolute() else None
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        # A relative path is to be ignored: https://specifications.freedesktop.org/basedir-spec/latest/
        cache = cache if cache.is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        return None
    return cache / "coldfusion-fl" / "scores"


class ScoreCache:
    """Reads and writes scores in a folder that only its owner can read.

    Args:
        folder: the folder; it is created.
        warn: called with a sentence where a file cannot be read or written.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self.folder = folder
        self._warn = warn

    def load(self, key: str) -> CachedScore | None:
        """The score with a key; None if there is none, or its file is damaged or cannot be read."""
        file = self._file(key)
        try:
            self._open_folder()
            kept = _read(file)
        except FileNotFoundError:
            return None
        # safetensors and json have types of their own; a file of another kind lacks keys.
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            self._warn(f"A cached score cannot be read, and is computed again: {file}: {error}")
            return None
        with suppress(OSError):
            os.utime(file)
        return kept

    def save(self, key: str, kept: CachedScore) -> None:
        """Store a score, and remove those that were not used for the longest time where there are too many."""
        try:
            self._open_folder()
            with atomic_write(self._file(key)) as path:
                _write(path, kept)
            self._remove_oldest()
        except OSError as error:
            self._warn(f"A score cannot be kept for later runs in {self.folder}: {error}")

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _open_folder(self) -> None:
        """Create the folder, or take it away from others.

        Raises:
            OSError: it cannot be created, or belongs to somebody else.
        """
        self.folder.mkdir(mode=_OWNER_ALONE, parents=True, exist_ok=True)
        found = self.folder.stat()
        if found.st_uid != os.geteuid():
            raise PermissionError("the folder belongs to another user")
        if found.st_mode & 0o777 != _OWNER_ALONE:
            self.folder.chmod(_OWNER_ALONE)

    def _remove_oldest(self) -> None:
        """Remove files beyond the limits, and those that a killed writer has left once they are old."""
        found = []
        for file in (file for file in self.folder.iterdir() if _FILE.fullmatch(file.name)):
            with suppress(FileNotFoundError):  # another process works here too
                facts = file.stat()
                found.append((facts.st_mtime, facts.st_size, file))
        size = 0
        for number, (_, of_file, file) in enumerate(sorted(found, reverse=True), start=1):
            size += of_file
            if number > _MAX_FILES or size > _MAX_BYTES:
                remove(file)


def _write(file: Path, kept: CachedScore) -> None:
    arrays = {
        _LABELS: np.ascontiguousarray(kept.predictions.labels),
        _PREDICTED: np.ascontiguousarray(kept.predictions.predicted),
    }
    score = json.dumps(asdict(kept.score))
    facts = {_SCORE: score, _SECONDS: str(kept.seconds), _SHA256: _hash(score, arrays)}
    save_arrays(arrays, file, facts)


def _read(file: Path) -> CachedScore:
    """Read a score.

    Raises:
        Exception: of several types, where the file is not as `_write` wrote it.
    """
    with safe_open(file, "numpy") as opened:
        facts = opened.metadata()
        arrays = {name: opened.get_tensor(name) for name in (_LABELS, _PREDICTED)}
    if facts[_SHA256] != _hash(facts[_SCORE], arrays):
        raise ValueError("its content has another hash than when it was written")
    score = Score(**json.loads(facts[_SCORE]))
    return CachedScore(score, Predictions(arrays[_LABELS], arrays[_PREDICTED]), float(facts[_SECONDS]))


def _hash(score: str, arrays: dict[str, np.ndarray]) -> str:
    return hashlib.sha256(f"{score}\n{encoder_hash(arrays)}".encode()).hexdigest()
