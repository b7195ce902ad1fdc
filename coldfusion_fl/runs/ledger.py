"""The run folder: the identity of a run, its state, and every round.

::

    run.json            settings, versions, start time: what makes this run this run
    status.json         running, finished, stopped or failed, and why: see `state`
    progress.jsonl      one event a line: see `events`
    log.txt             the output of the run, with times: see `execution.log_file`
    rounds/             see `round_store`
    model/              the result, in Hugging Face format: the last base; where `ema` is set, the average of the bases
    last-base/          the last base, where it is not the result
    report.json, report.csv, scores.png, report.html
    SHA256SUMS          the hashes of the files: see `integrity.file_list`
    signed/             the hashes of the files, signed: see `integrity.signature`
    tasks/              the rows of tasks in memory, with their catalogue: see `data.memory.task_files`
    nodes/              what each simulated contributor keeps for itself: see `training.node_state`

A file that must not be half-written is written under another name, synced and renamed.
"""

import contextlib
import json
import uuid
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.atomic_files import (
    atomic_write,
    disk_errors,
    exclusive_lock,
    is_locked,
    is_partial,
    remove_partial,
    write_json,
)
from coldfusion_fl.config.comparison import ensure_same
from coldfusion_fl.config.own_catalogue import TASKS, from_stored, to_stored
from coldfusion_fl.config.tables import as_json
from coldfusion_fl.errors import ErrorCode, RunFolderError
from coldfusion_fl.runs.events import Event, RunFailed
from coldfusion_fl.runs.integrity.file_list import RESULTS, RUN_FILE, round_files
from coldfusion_fl.runs.progress import PROGRESS, ProgressLog
from coldfusion_fl.runs.records import RoundRecord
from coldfusion_fl.runs.round_store import RoundStore
from coldfusion_fl.runs.state import RunState, StateFile, timestamp
from coldfusion_fl.versions import installed_versions


class Ledger(RoundStore):
    """A run folder, opened.

    Args:
        folder: the folder, which `create` has made.

    Attributes:
        state_file: the transitions of the run's state.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.state_file = StateFile(folder / "status.json")
        self._progress = ProgressLog(folder / PROGRESS)
        self._has_lock = False

    # -- opening ------------------------------------------------------------------------------------------------------

    @classmethod
    def create(cls, folder: Path, settings: Mapping[str, Any], federation: str = "") -> "Ledger":
        """Make a run folder for a new run.

        Args:
            folder: the folder; it may exist if it is empty.
            settings: the run's settings as nested tables.
            federation: the folder of the federation that executes the run; empty: a simulation.

        Raises:
            RunFolderError: the folder is not empty or cannot be made.
        """
        settings = as_json(settings)
        ensure_free(folder, (TASKS,))
        ledger = cls(folder)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            remove_partial(folder)
            facts = {
                "settings": to_stored(settings, folder),
                "federation": federation,
                "began": timestamp(),
                "versions": installed_versions(),
                "id": uuid.uuid4().hex,
            }
            (folder / "rounds").mkdir()
            write_json(folder / RUN_FILE, facts)
        ledger.file_list.put(RUN_FILE)
        ledger.state_file.running()
        return ledger

    @classmethod
    def reopen(cls, folder: Path, settings: Mapping[str, Any] | None = None) -> "Ledger":
        """Open the folder of a run that is to resume, and remove what a killed process left half-written.

        Args:
            folder: the run folder.
            settings: those that it is to resume with, as nested tables; None: its own.

        Raises:
            RunFolderError: the folder holds no run, a process is working on it, its last round is damaged, something
                else is where the next round is to be, or the run has other settings, which the message lists.
        """
        ledger = cls(folder)
        _ = ledger.settings  # raises if this is not a run folder
        with ledger.lock(), disk_errors(folder):
            (folder / "rounds").mkdir(exist_ok=True)
            remove_partial(folder)
            remove_partial(folder / "rounds")
        if rounds := ledger.rounds():
            remove_partial(ledger.round_folder(rounds[-1]))
            ledger.remove_damaged_scores(rounds[-1])
            ledger.verify(rounds[-1])
            ledger.file_list.put_missing(*round_files(rounds[-1]))
        ledger.check_is_free(len(rounds))
        if settings is not None:
            ensure_same(ledger.settings, as_json(settings), folder)
        return ledger

    @classmethod
    def resume(cls, folder: Path, settings: Mapping[str, Any]) -> "Ledger":
        """Open the folder of a run that is to resume with these settings, given as nested tables.

        Raises:
            RunFolderError: as `reopen`.
        """
        settings = as_json(settings)
        ledger = cls.reopen(folder, settings)
        resumed = [*ledger._facts.get("resumed", []), {"time": timestamp(), "versions": installed_versions()}]
        ledger._note(settings=to_stored(settings, folder), resumed=resumed)
        ledger.state_file.running()
        return ledger

    @classmethod
    def open(cls, folder: Path | str, settings: Mapping[str, Any] | None = None) -> "Ledger":
        """`create` a run folder, or `resume` the run that it holds: for a strategy in a project of your own.

        Args:
            folder: the run folder.
            settings: what the bases depend on, as nested tables: a run cannot resume with others.

        Raises:
            RunFolderError: as `create` and `resume`.
        """
        folder = Path(folder)
        return (cls.resume if (folder / RUN_FILE).exists() else cls.create)(folder, settings or {})

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Be the only process that writes rounds. The lock ends with the process, and may be taken again by its holder.

        Raises:
            RunFolderError: another process holds it.
        """
        if self._has_lock:
            yield
            return
        with exclusive_lock(self.folder, "another process is working on this run. Wait for it, or end it."):
            self._has_lock = True
            try:
                yield
            finally:
                self._has_lock = False

    @property
    def is_locked(self) -> bool:
        """Whether another process is working on this run."""
        return not self._has_lock and is_locked(self.folder)

    # -- what the run is ----------------------------------------------------------------------------------------------

    @property
    def settings(self) -> dict[str, Any]:
        """The run's settings as nested tables.

        Raises:
            RunFolderError: the folder holds no run.
        """
        return from_stored(self._facts["settings"], self.folder)

    @property
    def run_id(self) -> str:
        """Identifies this run, however often it resumes."""
        return str(self._facts.get("id", ""))

    @property
    def federation(self) -> str:
        """The folder of the federation that executes the run; empty: it is a simulation."""
        return str(self._facts.get("federation", ""))

    @property
    def rows_hashes(self) -> dict[str, str]:
        """A hash of the rows that each task had when the run began, by task; empty if they are not known."""
        found: dict[str, str] = self._facts.get("rows-hashes", {})
        return found

    def note_rows(self, hashes: Mapping[str, str]) -> None:
        """Record the hashes of the tasks' rows, unless they are recorded."""
        if not self.rows_hashes:
            self._note(**{"rows-hashes": dict(hashes)})

    @property
    def base_commit(self) -> str:
        """The commit of the first base, if it came from the Hub; empty: it did not, or it is not known."""
        return str(self._facts.get("base-commit", ""))

    def note_base_commit(self, commit: str) -> None:
        """Record the commit of the first base, unless it is recorded."""
        if commit and not self.base_commit:
            self._note(**{"base-commit": commit})

    @property
    def machines(self) -> list[dict[str, Any]]:
        """The machines that the run was on, oldest first, as `machine.machine_facts` describes them."""
        found: list[dict[str, Any]] = self._facts.get("machines", [])
        return found

    def note_machine(self, machine: Mapping[str, Any]) -> None:
        """Record the machine that the run is on now, unless it is the last one recorded."""
        if self.machines[-1:] != [dict(machine)]:
            self._note(machines=[*self.machines, dict(machine)])

    @property
    def versions(self) -> dict[str, str]:
        """The versions of this software and its dependencies when the run began."""
        found: dict[str, str] = self._facts.get("versions", {})
        return found

    def _note(self, **facts: Any) -> None:
        """Change facts of `run.json`. One that another program changed still differs from the list afterwards."""
        is_own = self.file_list.matches(RUN_FILE)
        if is_own:
            self.file_list.drop(RUN_FILE)
        with disk_errors(self.folder):
            write_json(self.folder / RUN_FILE, {**self._facts, **facts})
        if is_own:
            self.file_list.put(RUN_FILE)

    @property
    def _facts(self) -> dict[str, Any]:
        try:
            facts: dict[str, Any] = json.loads((self.folder / RUN_FILE).read_text(encoding="utf-8"))
            _ = facts["settings"]
        except (OSError, ValueError, KeyError, TypeError):
            raise RunFolderError(
                f"{self.folder}: not a run folder, because it has no readable {RUN_FILE}. Give the folder of a run."
            ) from None
        return facts

    # -- how the run stands -------------------------------------------------------------------------------------------

    @property
    def state(self) -> RunState:
        """How the run stands."""
        return self.state_file.read()

    @contextlib.contextmanager
    def track_state(self) -> Iterator[None]:
        """Within this context the run is running; afterwards it is finished, or failed: see `StateFile.tracked`."""
        with self.state_file.tracked(lambda reason: self.emit(RunFailed(reason=reason))):
            yield

    def emit(self, event: Event) -> None:
        """Add an event to `progress.jsonl`.

        Raises:
            RunFolderError: the disk is full or cannot be written.
        """
        self._progress.append(event)

    def events(self) -> list[Event]:
        """All events so far."""
        return self.events_from(0)[0]

    def events_from(self, position: int) -> tuple[list[Event], int]:
        """The events behind a position, and the position behind them: see `ProgressLog.read`."""
        return self._progress.read(position)

    def is_complete(self, rounds: int) -> bool:
        """Whether this many rounds are done, and all results are written: the state says so after the last of them."""
        return max(self.rounds(), default=-1) >= rounds and self.state.state == "finished"

    # -- writing ------------------------------------------------------------------------------------------------------

    def save_round(
        self,
        base: Encoder,
        record: RoundRecord,
        optimizer_state: Encoder | None = None,
        average: Encoder | None = None,
        constants: Encoder | None = None,
    ) -> None:
        """Write a round, all of it or nothing, and note it in the run's state: see `write_round`.

        The record gets the hash of the record before it and the versions of this software.

        Raises:
            RunFolderError: the disk is full or cannot be written; the rounds before are intact.
        """
        previous = self.record_hash(record.round - 1) if record.round else ""
        record = record.model_copy(update={"previous_record_sha256": previous, "versions": installed_versions()})
        self.write_round(base, record, optimizer_state, average, constants)
        self.state_file.round_saved(record.round)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """A path to write a file or folder of the run folder at; it gets its name when it is complete.

        Raises:
            RunFolderError: the disk is full or cannot be written.
        """
        with disk_errors(self.folder), atomic_write(self.folder / name) as path:
            yield path
            if name in RESULTS:  # a process that is killed now leaves it unlisted, and not with a wrong hash
                self.file_list.drop(name)
        if name in RESULTS:
            self.file_list.put(name)


def ensure_free(folder: Path, beside: Collection[str] = ()) -> None:
    """Check that a folder can become a run folder.

    Args:
        folder: the folder; it need not exist.
        beside: the names of what may be in it.

    Raises:
        RunFolderError: it holds a run or anything else, or is a file.
    """
    if (folder / RUN_FILE).exists():
        state = Ledger(folder).state
        raise RunFolderError(
            f"{folder} holds another run already ({state.state}, {state.since}). Resume it with --resume (in "
            "Python: resume=True), or choose another folder.",
            ErrorCode.RUN_FOLDER_IN_USE,
        )
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder} is a file. Choose a new folder.", ErrorCode.RUN_FOLDER_IN_USE)
    if folder.is_dir() and not all(is_partial(path) or path.name in beside for path in folder.iterdir()):
        raise RunFolderError(f"{folder} is not empty. Choose a new folder.", ErrorCode.RUN_FOLDER_IN_USE)
