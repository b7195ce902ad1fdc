"""Scores on disk, between runs, by the key of what they depend on: see `score_key`.

A file has the score, and the labels and predictions of the test rows. It is written atomically and read without pickle.
Scores can be computed again, so no error of this folder ends anything: it is a warning, and the score is computed.
"""

import functools
import json
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open

from coldfusion_fl.arrays.array_files import save_arrays
from coldfusion_fl.atomic_files import atomic_write, remove
from coldfusion_fl.evaluation.scores import Predictions, Score

# An absolute folder in place of the user's cache; empty: no scores are cached.
VARIABLE = "COLDFUSION_CACHE"
_MAX_BYTES = 2**28  # of all files; those that were used last stay
_OWNER_ALONE, _OTHERS = 0o700, 0o077
# The name of a file, also of one that a killed writer has left.
_FILE = re.compile(r"\.?[0-9a-f]{64}\.safetensors(\.[0-9]+\.partial)?")
_LABELS, _PREDICTED = "labels", "predicted"
_SCORE, _SECONDS = "score", "seconds"


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


def score_cache_folder(warn: Callable[[str], None]) -> Path | None:
    """The folder of the user's scores: in the user's cache, or as the environment says; None: there is no cache.

    Args:
        warn: called with a sentence if the environment names a relative folder.
    """
    cache = Path(named) if (named := os.environ.get(VARIABLE)) else _user_cache()
    if named == "" or cache is None:
        return None
    if not cache.is_absolute():
        # A worker of a simulation works in another folder than the user.
        warn(f"{VARIABLE} is '{named}', which is no absolute path. No scores are cached.")
        return None
    return cache / "coldfusion-fl" / "scores"


def _user_cache() -> Path | None:
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        # A relative path is to be ignored: https://specifications.freedesktop.org/basedir-spec/latest/
        return cache if cache.is_absolute() else Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        return None


class ScoreCache:
    """Reads and writes scores in a folder that only its owner can read.

    Args:
        folder: the folder. The first score that is saved creates it.
        warn: called with a sentence where a file cannot be read or written. A fault of the folder has the same sentence
            for all scores.
    """

    def __init__(self, folder: Path, warn: Callable[[str], None]) -> None:
        self.folder = folder
        self._warn = warn

    def load(self, key: str) -> CachedScore | None:
        """The score with a key; None if there is none, or its file is damaged or cannot be read."""
        file = self._file(key)
        try:
            self._check_folder()
            cached = _read(file)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn_of_folder(error)
            return None
        # safetensors and json have types of their own; a file of another kind lacks keys.
        except (SafetensorError, ValueError, KeyError, TypeError):
            self._warn(f"A cached score is damaged, and is computed again: {file}")
            return None
        with suppress(OSError):
            os.utime(file)
        return cached

    def save(self, key: str, cached: CachedScore) -> None:
        """Store a score. The first one of a process also removes old ones, if there are too many."""
        try:
            with suppress(FileExistsError):
                self.folder.mkdir(mode=_OWNER_ALONE, parents=True)
            self._check_folder()
            with atomic_write(self._file(key)) as path:
                _write(path, cached)
            _remove_oldest(self.folder)
        except OSError as error:
            self._warn_of_folder(error)

    def _file(self, key: str) -> Path:
        return self.folder / f"{key}.safetensors"

    def _check_folder(self) -> None:
        """Check that the folder is the user's alone. Its mode is not changed, as others may need what it holds.

        Raises:
            OSError: others can read or write it, it belongs to somebody else, or it does not exist.
        """
        found = self.folder.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError("it is no folder")
        if found.st_uid != os.geteuid():
            raise PermissionError("it belongs to another user")
        if found.st_mode & _OTHERS:
            raise PermissionError(
                "other users have access to it. Give it the mode 700, or name another folder in " + VARIABLE
            )

    def _warn_of_folder(self, error: OSError) -> None:
        # Without the name of the file, which is another one for each score.
        self._warn(f"Scores cannot be cached in {self.folder}: {error.strerror or error}")


@functools.cache
def _remove_oldest(folder: Path) -> None:
    """Once in a process, remove files beyond the limit, and those that a killed writer has left once they are old."""
    found = []
    for file in (file for file in folder.iterdir() if _FILE.fullmatch(file.name)):
        with suppress(FileNotFoundError):  # another process works here too
            facts = file.stat()
            found.append((facts.st_mtime, facts.st_size, file))
    size = 0
    for _, of_file, file in sorted(found, reverse=True):
        size += of_file
        if size > _MAX_BYTES:
            remove(file)


def _write(file: Path, cached: CachedScore) -> None:
    arrays = {
        _LABELS: np.ascontiguousarray(cached.predictions.labels),
        _PREDICTED: np.ascontiguousarray(cached.predictions.predicted),
    }
    save_arrays(arrays, file, {_SCORE: json.dumps(asdict(cached.score)), _SECONDS: str(cached.seconds)})


def _read(file: Path) -> CachedScore:
    """Read a score.

    Raises:
        Exception: of several types, where the file is not as `_write` writes it.
    """
    with safe_open(file, "numpy") as opened:
        facts = opened.metadata()
        labels, predicted = opened.get_tensor(_LABELS), opened.get_tensor(_PREDICTED)
    score = TypeAdapter(Score).validate_json(facts[_SCORE], strict=True)
    if labels.shape != (score.test_examples,) or predicted.shape != (max(1, len(predicted)), *labels.shape):
        raise ValueError("it has another number of predictions than its score")
    return CachedScore(score, Predictions(labels, predicted), float(facts[_SECONDS]))
