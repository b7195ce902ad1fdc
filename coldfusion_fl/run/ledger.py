"""The run folder: what a run is, how far it is, and every round's base and record.

::

    run.json            settings, versions, when it began: what makes this run this run
    status.json         running, finished, stopped or failed; the last durable round; why
    progress.jsonl      one event a line, for whoever watches
    log.txt             what Flower, Ray and the contributors print
    rounds/003/         round 3; 000 is the base that the run began with
        base.safetensors        the base that the round ended with
        optimizer.safetensors   the state of the server optimizer, where it has one
        average.safetensors     the moving average of the bases, where one is kept
        record.json             who was sampled; of each contribution its size, direction, share, hash and what its
                                sender reported; who was rejected and why; times, versions, the previous
                                record's hash
        scores.json             what the contributors' tests said of that base
        SHA256SUMS              of all these, for `sha256sum --check`
    model/              the last base, in Hugging Face format
    report.json, report.csv, scores.png

Whatever must not be half-written is written aside, synced and renamed.
"""

import contextlib
import errno
import functools
import json
import platform
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.atomic_files import (
    atomic_write,
    disk_errors,
    exclusive_lock,
    is_partial,
    remove,
    remove_partial,
    sha256,
    write_json,
)
from coldfusion_fl.config.comparison import ensure_same
from coldfusion_fl.errors import ColdFusionError, RunFolderError, SettingsError

_VERSIONS = ("coldfusion-fl", "flwr", "ray", "torch", "transformers", "numpy", "scikit-learn")
_CHECKSUMS = "SHA256SUMS"
_RECORD = "record.json"
_SCORES = "scores.json"
_ARRAYS = ".safetensors"
_PRUNED = "pruned.json"


class Ledger:
    """A run folder, opened.

    Args:
        folder: the folder, which `create` has made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._has_lock = False
        self._tracks_status = False

    @classmethod
    def create(cls, folder: Path, settings: Mapping[str, Any], federation: str = "") -> "Ledger":
        """Make a run folder for a new run.

        Args:
            folder: the folder; it may exist, but not hold anything.
            settings: the run's settings as nested tables.
            federation: the folder of the federation that runs it; empty: none does.

        Raises:
            RunFolderError: the folder holds something already, or cannot be made.
        """
        settings = _as_json(settings)
        ensure_free(folder)
        ledger = cls(folder)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            remove_partial(folder)
            facts = {
                "settings": settings,
                "federation": federation,
                "began": _now(),
                "versions": versions(),
                "id": uuid.uuid4().hex,
            }
            write_json(folder / "run.json", facts)
            (folder / "rounds").mkdir()
        ledger.set_status("running", last_round=None)
        return ledger

    @classmethod
    def reopen(cls, folder: Path) -> "Ledger":
        """Open the folder of a run that is to go on, and clear away what a killed process left half-written.

        Raises:
            RunFolderError: the folder holds no run, a process is still at it, or its last round is damaged.
        """
        ledger = cls(folder)
        _ = ledger.settings  # it is a run folder
        with ledger.lock(), disk_errors(folder):
            (folder / "rounds").mkdir(exist_ok=True)
            remove_partial(folder)
            remove_partial(folder / "rounds")
            ledger._truncate_partial_event()
        if rounds := ledger.rounds():
            remove_partial(ledger.round_folder(rounds[-1]))
            ledger._remove_damaged_scores(rounds[-1])
            ledger.verify(rounds[-1])
        return ledger

    def _remove_damaged_scores(self, number: int) -> None:
        """Forget scores that are damaged: the base is judged again, and nothing else depends on them."""
        sums, file = self._checksums(number), self.round_folder(number) / _SCORES
        if _SCORES in sums and (not file.is_file() or sha256(file) != sums[_SCORES]):
            self._write_checksums(number, {name: digest for name, digest in sums.items() if name != _SCORES})
            remove(file)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only one that writes rounds; the lock goes with the process, however it ends. Whoever has it has it.

        Raises:
            RunFolderError: another ledger has it.
        """
        if self._has_lock:
            yield
            return
        with exclusive_lock(self.folder, "another process is at this run. Wait for it, or end it."):
            self._has_lock = True
            try:
                yield
            finally:
                self._has_lock = False
        self._tracks_status = False

    @property
    def is_locked(self) -> bool:
        """Whether somebody is at this run."""
        try:
            with self.lock():
                return False
        except RunFolderError:
            return True

    @classmethod
    def resume(cls, folder: Path, settings: Mapping[str, Any]) -> "Ledger":
        """Open the folder of a run that is to go on with these settings, as nested tables.

        Raises:
            RunFolderError: as `reopen`; or it holds a run of other settings, and what differs is said.
        """
        settings = _as_json(settings)
        ledger = cls.reopen(folder)
        ensure_same(ledger.settings, settings, folder)
        facts = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        resumed = [*facts.get("resumed", []), {"time": _now(), "versions": versions()}]
        with disk_errors(folder):
            write_json(folder / "run.json", {**facts, "settings": settings, "resumed": resumed})
        ledger.set_status("running", reason=None, final=None)
        return ledger

    @classmethod
    def open(cls, folder: Path | str, settings: Mapping[str, Any] | None = None) -> "Ledger":
        """`create` a run folder, or `resume` the run that it holds: for a strategy in a project of one's own.

        Args:
            folder: the run folder.
            settings: what the bases depend on, as nested tables: a run does not go on with others.

        Raises:
            RunFolderError: as `create` and `resume`.
        """
        folder = Path(folder)
        return (cls.resume if (folder / "run.json").exists() else cls.create)(folder, settings or {})

    @property
    def settings(self) -> dict[str, Any]:
        """The run's settings as nested tables.

        Raises:
            RunFolderError: the folder holds no run.
        """
        tables: dict[str, Any] = self._facts["settings"]
        return tables

    @property
    def run_id(self) -> str:
        """What tells this run from all others, however often it goes on; empty for one that was begun long ago."""
        return str(self._facts.get("id", ""))

    @property
    def federation(self) -> str | None:
        """The folder of the federation that runs it; empty: none does; None: an older version wrote nothing of it."""
        return self._facts.get("federation")

    @property
    def _facts(self) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = json.loads((self.folder / "run.json").read_text(encoding="utf-8"))
            _ = facts["settings"]
        except (OSError, ValueError, KeyError, TypeError):
            raise RunFolderError(f"{self.folder}: this is not a run folder (no readable run.json in it).") from None
        return facts

    @property
    def status(self) -> dict[str, Any]:
        """What `status.json` says, or an empty table."""
        try:
            status = json.loads((self.folder / "status.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return status if isinstance(status, dict) else {}

    def set_status(self, state: str, **facts: Any) -> None:
        """Say how the run is: `running`, `finished`, `stopped` or `failed`; other facts stay as they were."""
        with disk_errors(self.folder):
            write_json(self.folder / "status.json", {**self.status, "state": state, "since": _now(), **facts})

    @contextlib.contextmanager
    def track_status(self) -> Iterator[None]:
        """Write into the status how a run goes: `running`, then `finished`, or `failed`, why, and whether it is final.

        An error of ours is final: another try would end in the same way. What else ends a run may be a loss. A run that
        a person stopped stays `stopped`. Within another `track_status`, that one says how it went.
        """
        if self._tracks_status:
            yield
            return
        self._tracks_status = True
        self.set_status("running", reason=None, final=None)
        try:
            yield
        except BaseException as end:
            reason = str(end) if isinstance(end, ColdFusionError) else f"{type(end).__name__}: {end}"
            with contextlib.suppress(ColdFusionError):  # a full disk may be the reason
                if self.status.get("state") != "stopped":
                    self.set_status("failed", reason=reason, final=isinstance(end, ColdFusionError))
                self.event("failed", reason=reason)
            raise
        finally:
            self._tracks_status = False
        self.set_status("finished")

    def event(self, kind: str, /, **facts: Any) -> None:
        """Add an event to `progress.jsonl`; lines of several processes do not mix."""
        line = json.dumps({**facts, "kind": kind, "time": time.time()}) + "\n"
        with disk_errors(self.folder), (self.folder / "progress.jsonl").open("ab", buffering=0) as file:
            file.write(line.encode())

    def _truncate_partial_event(self) -> None:
        """Cut off a line that a killed process did not finish, or the next event would be lost with it."""
        file = self.folder / "progress.jsonl"
        if file.exists():
            with file.open("r+b") as progress:
                whole = progress.read().rpartition(b"\n")
                progress.truncate(len(whole[0] + whole[1]))

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

    def save_round(
        self,
        number: int,
        base: Encoder,
        record: Mapping[str, Any],
        optimizer_state: Encoder | None = None,
        average: Encoder | None = None,
    ) -> None:
        """Make a round durable: all of it or nothing.

        Args:
            number: the round; 0 for the base that the run began with.
            base: the base that the round ended with.
            record: what there is to say of it.
            optimizer_state: what the step remembers.
            average: the moving average of the bases.

        Raises:
            RunFolderError: the disk is full or does not take it; the rounds before are intact.
        """
        with disk_errors(self.folder), atomic_write(self.round_folder(number)) as folder:
            folder.mkdir()
            for name, arrays in (("base", base), ("optimizer", optimizer_state), ("average", average)):
                if arrays:
                    _save(arrays, folder / f"{name}{_ARRAYS}")
            sums = {path.name: sha256(path) for path in sorted(folder.iterdir())}
            spelt = json.dumps({**record, "files": sums}, indent=1, allow_nan=False)
            (folder / _RECORD).write_text(spelt, encoding="utf-8")
            sums[_RECORD] = sha256(folder / _RECORD)
            (folder / _CHECKSUMS).write_text(_format_checksums(sums), encoding="utf-8")
        self.set_status("running", last_round=number)

    def save_scores(self, number: int, scores: Mapping[str, Any]) -> None:
        """Keep what the tests said of a round's base, by contributor."""
        folder = self.round_folder(number)
        with disk_errors(self.folder):
            write_json(folder / _SCORES, scores)
            self._write_checksums(number, self._checksums(number) | {_SCORES: sha256(folder / _SCORES)})

    def _write_checksums(self, number: int, sums: Mapping[str, str]) -> None:
        with disk_errors(self.folder), atomic_write(self.round_folder(number) / _CHECKSUMS) as path:
            path.write_text(_format_checksums(sums), encoding="utf-8")

    def rounds(self) -> list[int]:
        """The numbers of the durable rounds, in order.

        Raises:
            RunFolderError: one between them is missing.
        """
        numbers = sorted(int(path.name) for path in (self.folder / "rounds").glob("[0-9]*") if path.name.isdigit())
        for expected, number in enumerate(numbers):
            if expected != number:
                raise RunFolderError(
                    f"{self.round_folder(expected)}: this round is missing. {self.recovery_advice(expected)}"
                )
        return numbers

    def has_scores(self, number: int) -> bool:
        """Whether a round's base was judged, and what came of it is durable."""
        return _SCORES in self._checksums(number)

    def round_folder(self, number: int) -> Path:
        """Where a round lies."""
        return self.folder / "rounds" / f"{number:03d}"

    def verify(self, number: int) -> None:
        """Check a round's files against their hashes.

        Raises:
            RunFolderError: one is damaged or missing; it is named.
        """
        if found := self.damage(number):
            raise RunFolderError(f"{found[0]} {self.recovery_advice(number)}")

    def damage(self, number: int) -> list[str]:
        """What is wrong with a round's files: a sentence a file. Arrays that `keep_last` removed are not missed."""
        folder = self.round_folder(number)
        try:
            sums, record = self._checksums(number), self.record(number)
        except RunFolderError as unreadable:
            return [str(unreadable)]
        # Each of the two says what the arrays' hashes are: the damaged list of hashes is found by the record.
        if _RECORD not in sums or any(sums.get(name) != digest for name, digest in record.get("files", {}).items()):
            return [f"{folder / _CHECKSUMS}: this file is damaged: it does not list what the round's record does."]
        found = []
        for name, recorded in sums.items():
            file = folder / name
            if not file.is_file():
                if file.suffix != _ARRAYS or not (folder / _PRUNED).exists():
                    found.append(f"{file}: this file is missing.")
            elif sha256(file) != recorded:
                found.append(f"{file}: this file is damaged: its hash is not {recorded}.")
        return found

    def keep_last(self, count: int) -> None:
        """Remove the arrays of all rounds but the last so many; their records, scores and hashes stay."""
        self.keep_arrays(self.rounds()[-count:])

    def keep_arrays(self, numbers: Collection[int]) -> None:
        """Remove the arrays of all other rounds; their records, scores and hashes stay."""
        for number in self.rounds():
            if number in numbers or not self._has_arrays(number):
                continue
            with disk_errors(self.folder):
                write_json(self.round_folder(number) / _PRUNED, {"time": _now(), "kept": sorted(numbers)})
            for file in self.round_folder(number).glob(f"*{_ARRAYS}"):
                remove(file)

    def load_base(self, number: int) -> EncoderDict:
        """The base of a round, as arrays by name.

        Raises:
            RunFolderError: it is not there or damaged.
        """
        return self._load(number, "base")

    def load_optimizer_state(self, number: int) -> EncoderDict:
        """What the step remembered after a round; nothing where it remembers nothing."""
        return self._load(number, "optimizer") if f"optimizer{_ARRAYS}" in self.record(number)["files"] else {}

    def load_average(self, number: int) -> EncoderDict:
        """The moving average of the bases after a round; nothing where none is kept."""
        return self._load(number, "average") if f"average{_ARRAYS}" in self.record(number)["files"] else {}

    def record(self, number: int) -> dict[str, Any]:
        """A round's record.

        Raises:
            RunFolderError: it is missing or damaged.
        """
        if not (record := self.load_json(number, _RECORD)):
            raise RunFolderError(f"{self.round_folder(number) / _RECORD}: this file is missing.")
        return record

    def record_hash(self, number: int) -> str:
        """The SHA-256 of a round's record; the record after it holds it, so that the rounds make a chain."""
        return self._checksums(number).get(_RECORD, "")

    def _load(self, number: int, name: str) -> EncoderDict:
        file = self.round_folder(number) / f"{name}{_ARRAYS}"
        if not file.is_file() and (self.round_folder(number) / _PRUNED).exists():
            raise RunFolderError(f"{file}: the arrays of round {number} were not kept (keep-last).")
        try:
            arrays: EncoderDict = load_file(file)
        except (OSError, SafetensorError) as broken:
            raise RunFolderError(
                f"{file}: the {name} of round {number} cannot be read: {broken}. {self.recovery_advice(number)}"
            ) from None
        return arrays

    def _checksums(self, number: int) -> dict[str, str]:
        file = self.round_folder(number) / _CHECKSUMS
        try:
            lines = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as broken:
            raise RunFolderError(f"{file}: it cannot be read: {broken}.") from None
        return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}

    def _has_arrays(self, number: int) -> bool:
        return (self.round_folder(number) / f"base{_ARRAYS}").is_file()

    def recovery_advice(self, number: int) -> str:
        """What to do about a round that cannot be gone on from."""
        earlier = [before for before in range(number) if self._has_arrays(before)]
        if not earlier:
            return "No earlier round has its arrays: begin a new run."
        folders = sorted(path.name for path in (self.folder / "rounds").glob("[0-9]*") if int(path.name) > earlier[-1])
        listed = folders[0] if len(folders) == 1 else f"{folders[0]} to {folders[-1]}"
        return f"Remove {listed} in {self.folder / 'rounds'} to go on from round {earlier[-1]}."

    def load_json(self, number: int, name: str) -> dict[str, Any]:
        """`record.json` or `scores.json` of a round; empty where it is not there.

        Raises:
            RunFolderError: it is damaged.
        """
        file = self.round_folder(number) / name
        if not file.is_file():
            return {}
        try:
            facts: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(facts, dict):
                raise ValueError(f"it is no table but {type(facts).__name__}")
        except (OSError, ValueError) as broken:
            raise RunFolderError(f"{file}: it cannot be read: {broken}.") from None
        return facts

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path to write a file or folder of the run folder at; it gets its name when it is whole.

        Raises:
            RunFolderError: the disk is full or does not take it.
        """
        with disk_errors(self.folder), atomic_write(self.folder / name) as path:
            yield path


def _as_json(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as they will be read again.

    Raises:
        SettingsError: they hold what JSON has no word for.
    """
    try:
        table: dict[str, Any] = json.loads(json.dumps(settings))
    except (TypeError, ValueError) as wrong:
        raise SettingsError(f"a run folder's settings must be texts, numbers, lists and tables: {wrong}.") from None
    return table


def _format_checksums(sums: Mapping[str, str]) -> str:
    return "".join(f"{digest}  {name}\n" for name, digest in sums.items())


def ensure_free(folder: Path) -> None:
    """Check that a folder can become a run folder.

    Raises:
        RunFolderError: it holds a run or anything else, or is a file.
    """
    if (folder / "run.json").exists():
        status = Ledger(folder).status
        raise RunFolderError(
            f"{folder} holds another run already ({status.get('state', 'unknown state')}, "
            f"{status.get('since', 'at an unknown time')}). Go on with it by --resume, or choose another folder."
        )
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder} is a file. Choose a new folder.")
    if folder.is_dir() and not all(map(is_partial, folder.iterdir())):
        raise RunFolderError(f"{folder} is not empty. Choose a new folder.")


def _save(arrays: Encoder, file: Path) -> None:
    try:
        save_file(dict(arrays), file)
    except SafetensorError as failure:
        full = "No space left" in str(failure)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(failure)) from None


def _now() -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S%z")


@functools.cache
def versions() -> dict[str, str]:
    """The versions of this software and of what it stands on."""
    found = {"python": platform.python_version()}
    for name in _VERSIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
