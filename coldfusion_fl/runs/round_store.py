"""The rounds of a run on disk: their arrays, records, scores and hashes.

::

    rounds/003/             round 3; 000 is the base that the run began with
        base.safetensors        the base that the round ended with, without the arrays that never change
        constant.safetensors    those arrays, where there are any: one file for all rounds, by hard links
        optimizer.safetensors   the state of the server optimizer, where it has one
        average.safetensors     the moving average of the bases, where one is kept
        record.json             the round's record: see `records.RoundRecord`
        metrics.json            what the strategy and the server's own evaluation returned for the base, where they did
        scores.json             the scores, by node, of what a run that ends here delivers: base or average
        SHA256SUMS              the hashes of all these, for `sha256sum --check`
    undone/003/             a round that a person took back: see `coldfusion fuse --undo`
"""

import itertools
import json
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from coldfusion_fl.arrays.array_files import save_arrays
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.atomic_files import atomic_write, disk_errors, move, remove, sha256, share_weights, write_json
from coldfusion_fl.errors import ErrorCode, RunFolderError
from coldfusion_fl.evaluation.reported_scores import clean_scores
from coldfusion_fl.extras import require
from coldfusion_fl.runs.integrity.damage import find_damage
from coldfusion_fl.runs.integrity.file_list import (
    CHECKSUMS,
    METRICS,
    RECORD,
    SCORES,
    FileList,
    format_checksums,
    read_checksums,
)
from coldfusion_fl.runs.integrity.round_folders import scan_rounds
from coldfusion_fl.runs.records import RoundRecord, parse_record
from coldfusion_fl.runs.state import timestamp

_ARRAYS = ".safetensors"
_CONSTANTS = f"constant{_ARRAYS}"
_PRUNED = "pruned.json"


class RoundStore:
    """Reads and writes the rounds in a run folder.

    Args:
        folder: the run folder.

    Attributes:
        file_list: the hashes of the run's files.

    Raises:
        SettingsError: safetensors is not installed.
    """

    def __init__(self, folder: Path) -> None:
        require("a run folder", "safetensors")
        self.folder = folder
        self.file_list = FileList(folder)

    def round_folder(self, number: int) -> Path:
        """The folder of a round."""
        return self.folder / "rounds" / f"{number:03d}"

    def rounds(self) -> list[int]:
        """The numbers of the saved rounds, in order.

        Raises:
            RunFolderError: one between them is missing, or the folder cannot be read.
        """
        numbers = scan_rounds(self.folder / "rounds").numbers
        for expected, number in enumerate(numbers):
            if expected != number:
                raise RunFolderError(
                    f"{self.round_folder(expected)}: this round is missing. {self.recovery_advice(expected)}",
                    ErrorCode.RUN_FOLDER_DAMAGED,
                )
        return numbers

    def check_is_free(self, number: int) -> None:
        """Check that nothing is where a round will be written.

        Raises:
            RunFolderError: there is something that is not the folder of a round.
        """
        if (folder := self.round_folder(number)).exists():
            raise RunFolderError(
                f"{folder}: round {number} will be written here, but this is not the folder of a round. Move it away.",
                ErrorCode.RUN_FOLDER_DAMAGED,
            )

    def write_round(
        self,
        base: Encoder,
        record: RoundRecord,
        optimizer_state: Encoder | None = None,
        average: Encoder | None = None,
        constants: Encoder | None = None,
    ) -> None:
        """Write a round: all of it or nothing.

        Args:
            base: the base that the round ended with.
            record: its number, and what happened in it.
            optimizer_state: the state of the server optimizer.
            average: the moving average of the bases.
            constants: the arrays of the base that are the same in all rounds, and are not in `base`.

        Raises:
            RunFolderError: the disk is full or cannot be written; the rounds before are intact.
        """
        self.file_list.drop_rounds(record.round)  # of rounds that a person removed to resume before them
        with disk_errors(self.folder), atomic_write(self.round_folder(record.round)) as folder:
            folder.mkdir()
            for name, arrays in (("base", base), ("optimizer", optimizer_state), ("average", average)):
                if arrays:
                    save_arrays(arrays, folder / f"{name}{_ARRAYS}")
            if constants:
                self._write_constants(constants, folder / _CONSTANTS, record.round)
            checksums = {path.name: sha256(path) for path in sorted(folder.iterdir())}
            # Record and list of hashes both hold the hashes of the arrays: damage to either shows in the other.
            record = record.model_copy(update={"files": checksums})
            (folder / RECORD).write_text(json.dumps(record.to_json(), indent=1, allow_nan=False), encoding="utf-8")
            share_weights(folder, RECORD)
            checksums = checksums | {RECORD: sha256(folder / RECORD)}
            (folder / CHECKSUMS).write_text(format_checksums(checksums), encoding="utf-8")
        self.file_list.put(self._listed(record.round, RECORD))

    def _write_constants(self, constants: Encoder, file: Path, number: int) -> None:
        """Write the constant arrays of a round as a link to the file of the round before, or as a file of its own."""
        try:
            file.hardlink_to(self.round_folder(number - 1) / _CONSTANTS)
        except OSError:  # the first round; its arrays were removed; or the file system has no links
            save_arrays(constants, file)

    def save_scores(self, number: int, scores: Mapping[str, Any]) -> None:
        """Save the scores after a round, by node."""
        self._save_json(number, SCORES, scores)

    def save_metrics(self, number: int, evaluated: Mapping[str, Any], central: Mapping[str, Any]) -> None:
        """Save the metrics of a round's base, if it was evaluated. They are the last file of an evaluation.

        Args:
            number: the round.
            evaluated: aggregated over the nodes that evaluated.
            central: of the server's own evaluation.
        """
        if evaluated or central or self.has_scores(number):
            self._save_json(number, METRICS, {"evaluate": evaluated, "server": central})

    def remove_damaged_scores(self, number: int) -> None:
        """Remove the scores and metrics of a round if they are damaged. They are then made again."""
        for name in (SCORES, METRICS):
            checksums, file = self._checksums(number), self.round_folder(number) / name
            if name in checksums and (not file.is_file() or sha256(file) != checksums[name]):
                self._write_checksums(number, {key: digest for key, digest in checksums.items() if key != name})
                self.file_list.drop(self._listed(number, name))
                remove(file)

    def _save_json(self, number: int, name: str, table: Mapping[str, Any]) -> None:
        folder = self.round_folder(number)
        with disk_errors(self.folder):
            write_json(folder / name, table)
            self._write_checksums(number, self._checksums(number) | {name: sha256(folder / name)})
        self.file_list.put(self._listed(number, name))

    def set_aside(self, number: int) -> Path:
        """Move the last round to the folder `undone` of the run, and return its new folder there.

        Raises:
            RunFolderError: the round before has no arrays any more, or the disk cannot be written.
        """
        if not self._has_arrays(number - 1):
            raise RunFolderError(
                f"{self.round_folder(number)}: round {number} cannot be undone, because the arrays of round "
                f"{number - 1} were removed (keep-last)."
            )
        undone, name = self.folder / "undone", self.round_folder(number).name
        with disk_errors(self.folder):
            undone.mkdir(exist_ok=True)
            free = (undone / (name if count == 1 else f"{name}-{count}") for count in itertools.count(1))
            target = next(folder for folder in free if not folder.exists())
            self.file_list.drop_rounds(number)  # a process that is killed now leaves a whole round, which is not listed
            move(self.round_folder(number), target)
        return target

    def keep_last(self, count: int) -> None:
        """Remove the arrays of all rounds but the last `count`; their records, scores and hashes stay."""
        self.keep_arrays(self.rounds()[-count:])

    def keep_arrays(self, numbers: Collection[int]) -> None:
        """Remove the arrays of all other rounds; their records, scores and hashes stay."""
        for number in self.rounds():
            if number in numbers or not self._has_arrays(number):
                continue
            with disk_errors(self.folder):
                write_json(self.round_folder(number) / _PRUNED, {"time": timestamp(), "kept": sorted(numbers)})
            for file in self.round_folder(number).glob(f"*{_ARRAYS}"):
                remove(file)

    def load_base(self, number: int) -> EncoderDict:
        """The base of a round with all its arrays, by name.

        Raises:
            RunFolderError: it is missing or damaged.
        """
        constants = self._load(number, "constant") if _CONSTANTS in self.record(number).files else {}
        return {**self._load(number, "base"), **constants}

    def load_optimizer_state(self, number: int) -> EncoderDict:
        """The state of the server optimizer after a round; empty where it has none."""
        return self._load(number, "optimizer") if f"optimizer{_ARRAYS}" in self.record(number).files else {}

    def load_average(self, number: int) -> EncoderDict:
        """The moving average of the bases after a round; empty where none is kept."""
        return self._load(number, "average") if f"average{_ARRAYS}" in self.record(number).files else {}

    def record(self, number: int) -> RoundRecord:
        """The record of a round.

        Raises:
            RunFolderError: it is missing or damaged.
        """
        file = self.round_folder(number) / RECORD
        if not (table := self.load_json(number, RECORD)):
            raise RunFolderError(
                f"{file}: this file is missing. {self.recovery_advice(number)}", ErrorCode.RUN_FOLDER_DAMAGED
            )
        return parse_record(table, str(file))

    def records(self) -> list[RoundRecord]:
        """The records of all saved rounds, in order.

        Raises:
            RunFolderError: one is missing or damaged.
        """
        return [self.record(number) for number in self.rounds()]

    def record_hash(self, number: int) -> str:
        """The SHA-256 of a round's record, which the next record holds, so that the rounds are a chain."""
        return self._checksums(number).get(RECORD, "")

    def has_scores(self, number: int) -> bool:
        """Whether the scores after a round are saved."""
        return SCORES in self._checksums(number)

    def is_evaluated(self, number: int) -> bool:
        """Whether the nodes' evaluation of a round's base is saved to its end: the scores and the metrics."""
        return {SCORES, METRICS} <= self._checksums(number).keys()

    def load_scores(self, number: int) -> dict[str, dict[str, Any]]:
        """The scores after a round, by node, without what cannot be one; empty where nothing was evaluated.

        Raises:
            RunFolderError: they are damaged.
        """
        return clean_scores(self.load_json(number, SCORES))

    def load_metrics(self, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
        """The metrics of a round's base, over the nodes and of the server's own evaluation; empty where there are none.

        Raises:
            RunFolderError: they are damaged.
        """
        saved = self.load_json(number, METRICS)
        return saved.get("evaluate", {}), saved.get("server", {})

    def load_json(self, number: int, name: str) -> dict[str, Any]:
        """A JSON file of a round; empty where it is missing.

        Raises:
            RunFolderError: it is damaged.
        """
        file = self.round_folder(number) / name
        try:
            table: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            if not isinstance(table, dict):
                raise ValueError(f"it holds a {type(table).__name__}, not a table")
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as broken:
            raise RunFolderError(f"{file}: it cannot be read: {broken}.", ErrorCode.RUN_FOLDER_DAMAGED) from None
        return table

    def verify(self, number: int) -> None:
        """Check a round's files against their hashes.

        Raises:
            RunFolderError: one is damaged or missing; the message names it.
        """
        if damage := self.find_damage(number):
            raise RunFolderError(f"{damage[0]} {self.recovery_advice(number)}", ErrorCode.RUN_FOLDER_DAMAGED)

    def find_damage(self, number: int) -> list[str]:
        """A sentence for each damaged or missing file of a round. Arrays that `keep_last` removed are not missing."""
        folder = self.round_folder(number)
        try:
            checksums, record = self._checksums(number), self.record(number)
        except RunFolderError as unreadable:
            return [str(unreadable)]
        return find_damage(folder, checksums, record, _ARRAYS if (folder / _PRUNED).exists() else None)

    def recovery_advice(self, number: int) -> str:
        """What a person can do if a run cannot resume from a round."""
        earlier = [before for before in range(number) if self._has_arrays(before)]
        if not earlier:
            return "No earlier round has its arrays: start a new run."
        later = [after for after in scan_rounds(self.folder / "rounds").numbers if after > earlier[-1]] or [number]
        folders = [self.round_folder(after).name for after in later]
        listed = folders[0] if len(folders) == 1 else f"{folders[0]} to {folders[-1]}"
        return f"Remove {listed} in {self.folder / 'rounds'} to resume from round {earlier[-1]}."

    def _load(self, number: int, name: str) -> EncoderDict:
        file = self.round_folder(number) / f"{name}{_ARRAYS}"
        if not file.is_file() and (self.round_folder(number) / _PRUNED).exists():
            raise RunFolderError(f"{file}: the arrays of round {number} were removed (keep-last).")
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            arrays: EncoderDict = load_file(file)
        except (OSError, SafetensorError) as broken:
            raise RunFolderError(
                f"{file}: the {name} of round {number} cannot be read: {broken}. {self.recovery_advice(number)}",
                ErrorCode.RUN_FOLDER_DAMAGED,
            ) from None
        return arrays

    def _listed(self, number: int, name: str) -> str:
        """The path of a file of a round in the list of the run's files."""
        return (self.round_folder(number) / name).relative_to(self.folder).as_posix()

    def _write_checksums(self, number: int, checksums: Mapping[str, str]) -> None:
        with disk_errors(self.folder), atomic_write(self.round_folder(number) / CHECKSUMS) as path:
            path.write_text(format_checksums(checksums), encoding="utf-8")

    def _checksums(self, number: int) -> dict[str, str]:
        return read_checksums(self.round_folder(number) / CHECKSUMS)

    def _has_arrays(self, number: int) -> bool:
        return os.access(self.round_folder(number) / f"base{_ARRAYS}", os.R_OK)
