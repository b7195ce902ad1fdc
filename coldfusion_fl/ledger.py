"""The run folder: what a run is, how far it is, and every round's base and record.

::

    run.json            settings, versions, when it began: what makes this run this run
    status.json         running, finished, stopped or failed; the last durable round; why
    progress.jsonl      one event a line, for whoever watches
    log.txt             what Flower, Ray and the contributors print
    rounds/003/         base.safetensors and record.json of round 3; 000 is the base that the run began with
    rounds/003/scores.json  what the contributors' tests said of that base
    model/              the last base, in Hugging Face format
    report.json, report.csv, scores.png

Whatever must not be half-written is written aside, synced and renamed.
"""

import contextlib
import errno
import json
import os
import platform
import shutil
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from coldfusion_fl.errors import RunFolderError

_VERSIONS = ("coldfusion-fl", "flwr", "ray", "torch", "transformers", "numpy", "scikit-learn")


class Ledger:
    """A run folder, opened.

    Args:
        folder: the folder, which `create` has made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path, settings: Mapping[str, Any]) -> "Ledger":
        """Make a run folder for a new run.

        Args:
            folder: the folder; it may exist, but not hold anything.
            settings: the run's settings as nested tables.

        Raises:
            RunFolderError: the folder holds something already, or cannot be made.
        """
        ensure_free(folder)
        ledger = cls(folder)
        with _disk(folder):
            (folder / "rounds").mkdir(parents=True, exist_ok=True)
            facts = {"settings": settings, "began": _now(), "versions": _versions()}
            _write_json(folder / "run.json", facts)
        ledger.set_status("running", last_round=None)
        return ledger

    @property
    def settings(self) -> dict[str, Any]:
        """The run's settings as nested tables.

        Raises:
            RunFolderError: the folder holds no run.
        """
        try:
            tables: dict[str, Any] = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))["settings"]
        except (OSError, ValueError, KeyError):
            raise RunFolderError(f"{self.folder}: this is not a run folder (no readable run.json in it).") from None
        return tables

    @property
    def status(self) -> dict[str, Any]:
        """What `status.json` says, or an empty table."""
        try:
            status: dict[str, Any] = json.loads((self.folder / "status.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return status

    def set_status(self, state: str, **facts: Any) -> None:
        """Say how the run is: `running`, `finished`, `stopped` or `failed`; other facts stay as they were."""
        with _disk(self.folder):
            _write_json(self.folder / "status.json", {**self.status, "state": state, "since": _now(), **facts})

    def event(self, kind: str, /, **facts: Any) -> None:
        """Add an event to `progress.jsonl`; lines of several processes do not mix."""
        line = json.dumps({**facts, "kind": kind, "time": time.time()}) + "\n"
        with (self.folder / "progress.jsonl").open("ab", buffering=0) as file:
            file.write(line.encode())

    def events(self) -> list[dict[str, Any]]:
        """All events so far."""
        return self.events_from(0)[0]

    def events_from(self, place: int) -> tuple[list[dict[str, Any]], int]:
        """The events behind a place in `progress.jsonl`, and the place behind them.

        A line that is still being written does not count.
        """
        try:
            with (self.folder / "progress.jsonl").open("rb") as file:
                file.seek(place)
                whole, _, _ = file.read().rpartition(b"\n")
        except FileNotFoundError:
            return [], place
        events = [json.loads(line) for line in whole.splitlines()]
        return events, place + len(whole) + 1 if whole else place

    def save_round(self, number: int, base: Mapping[str, np.ndarray], record: Mapping[str, Any]) -> None:
        """Make a round durable: its base and its record, both or neither.

        Raises:
            RunFolderError: the disk is full or does not take it; the rounds before are intact.
        """
        target = self.round_folder(number)
        with _disk(self.folder), _aside(target) as folder:
            folder.mkdir()
            save_file(dict(base), folder / "base.safetensors")
            (folder / "record.json").write_text(json.dumps(record, indent=1), encoding="utf-8")
        self.set_status("running", last_round=number)

    def save_scores(self, number: int, scores: Mapping[str, Any]) -> None:
        """Keep what the tests said of a round's base, by contributor."""
        with _disk(self.folder):
            _write_json(self.round_folder(number) / "scores.json", scores)

    def rounds(self) -> list[int]:
        """The numbers of the durable rounds, in order."""
        return sorted(int(path.name) for path in (self.folder / "rounds").glob("[0-9]*") if path.name.isdigit())

    def round_folder(self, number: int) -> Path:
        """Where a round lies."""
        return self.folder / "rounds" / f"{number:03d}"

    def load_base(self, number: int) -> dict[str, np.ndarray]:
        """The base of a round, as arrays by name.

        Raises:
            RunFolderError: it is not there or damaged.
        """
        file = self.round_folder(number) / "base.safetensors"
        try:
            base: dict[str, np.ndarray] = load_file(file)
        except (OSError, SafetensorError) as broken:
            raise RunFolderError(f"{file}: the base of round {number} cannot be read: {broken}.") from None
        return base

    def load_json(self, number: int, name: str) -> dict[str, Any]:
        """`record.json` or `scores.json` of a round; empty where it is not there."""
        file = self.round_folder(number) / name
        if not file.is_file():
            return {}
        facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return facts

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path to write a file or folder of the run folder at; it gets its name when it is whole.

        Raises:
            RunFolderError: the disk is full or does not take it.
        """
        with _disk(self.folder), _aside(self.folder / name) as path:
            yield path


def ensure_free(folder: Path) -> None:
    """Check that a folder can become a run folder.

    Raises:
        RunFolderError: it holds a run or anything else, or is a file.
    """
    if (folder / "run.json").exists():
        status = Ledger(folder).status
        raise RunFolderError(
            f"{folder} holds another run already ({status.get('state', 'unknown state')}, "
            f"{status.get('since', 'at an unknown time')}). Choose another folder with --out, or remove it."
        )
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise RunFolderError(f"{folder} is not empty. Choose a new folder with --out.")


@contextlib.contextmanager
def _aside(target: Path) -> Iterator[Path]:
    temporary = target.with_name(f".{target.name}.{os.getpid()}.partial")
    _remove(temporary)
    try:
        yield temporary
        for path in [*temporary.rglob("*"), temporary]:
            _sync(path)
        if target.is_dir():
            _remove(target)
        temporary.replace(target)
        _sync(target.parent)
    finally:
        _remove(temporary)


def _write_json(target: Path, facts: Mapping[str, Any]) -> None:
    with _aside(target) as path:
        path.write_text(json.dumps(facts, indent=1), encoding="utf-8")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _disk(folder: Path) -> Iterator[None]:
    """Turn what a disk can do to a run into a message."""
    try:
        yield
    except (OSError, SafetensorError) as failure:
        full = getattr(failure, "errno", None) == errno.ENOSPC or "No space left" in str(failure)
        reason = "the disk is full. Free some space" if full else f"it cannot be written: {failure}. Mend that"
        raise RunFolderError(f"{folder}: {reason}; the rounds that were written before are intact.") from None


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S%z")


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _VERSIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
