"""What is published: a model folder, or a run with the bases of its rounds."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.atomic_files import disk_errors
from coldfusion_fl.errors import ErrorCode, ModelError, RunFolderError, SettingsError, count
from coldfusion_fl.model.base import Base, open_base, open_folder
from coldfusion_fl.model.encoder import load_encoder
from coldfusion_fl.model.export import read_licence, save_model
from coldfusion_fl.model.origin import Origin, has_sentence_pooling
from coldfusion_fl.publishing.model_files import CARD, ModelFiles, collect_files, find_paths, model_hash
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.runs.model_card import model_card

_RUN_MODEL = "model"
_LEFT = "Nothing of it was sent."


class ModelSource:
    """A model folder: a classifier, fused checkpoints, or any other model with a card.

    Args:
        folder: the folder.

    Raises:
        ModelError: the folder does not exist, or lacks its configuration or weights.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ModelError(f"{folder}: this folder does not exist.", code=ErrorCode.MODEL_MISSING)
        self.folder = open_folder(str(folder))
        self.description = f"the model in {folder}"
        self.rounds: tuple[int, ...] = ()
        self.notes: tuple[str, ...] = ()

    @contextlib.contextmanager
    def model(self, repository: str) -> Iterator[ModelFiles]:
        """The files of the model, for a repository."""
        yield collect_files(self.folder, repository)


@dataclass(frozen=True)
class _Choice:
    """The rounds of a run that are published, and which of them is the model; None: the run's result."""

    rounds: tuple[int, ...]
    model: int | None
    notes: tuple[str, ...]


class RunSource:
    """A run: its result, and the bases of rounds.

    Args:
        folder: the run folder.
        rounds: the rounds to publish: `all`, numbers with commas, or empty.

    Raises:
        RunFolderError: the run is not finished and no round is named, or a round has no arrays or is damaged.
        SettingsError: a round is named that the run does not have.
        ModelError: the base of an unfinished run cannot be opened.
    """

    def __init__(self, folder: Path, rounds: str) -> None:
        self.folder = folder
        self._ledger = Ledger(folder)
        choice = _choose(self._ledger, rounds)
        self.rounds, self._model, self.notes = choice.rounds, choice.model, choice.notes
        of = "the result" if choice.model is None else f"the base of round {choice.model}"
        self.description = f"{of} of the run {folder}"
        for number in self.rounds:
            self._ledger.verify(number)
        self._base: Base = open_base(str(folder) if choice.model is None else self._ledger.settings["base"])

    def hash_of(self, number: int) -> str:
        """The SHA-256 of the arrays of a round, as it is in its card."""
        return self._ledger.record(number).base_sha256

    def made(self, card: str) -> bool:
        """Whether a card is of a base that this run made."""
        hashes = {number: self.hash_of(number) for number in self._ledger.rounds()}
        return model_hash(card) in set(hashes.values()) - {hashes.get(0, ""), ""}

    @contextlib.contextmanager
    def model(self, repository: str) -> Iterator[ModelFiles]:
        """The files of the model, for a repository: of the result, or of the last named round."""
        if self._model is not None:
            with self.round(self._model, repository) as files:
                yield files
            return
        folder, card = self.folder / _RUN_MODEL, None
        file = folder / CARD
        # Cards that older versions wrote name the folder of the base.
        if not file.is_file() or find_paths(file.read_text(encoding="utf-8")):
            card = model_card(self._ledger, encoder_hash(load_encoder(self._base)), self._origin())
        yield collect_files(folder, repository, card)

    @contextlib.contextmanager
    def round(self, number: int, repository: str) -> Iterator[ModelFiles]:
        """The files of a round's base as a model; they exist within the context alone.

        Raises:
            RunFolderError: the arrays cannot be read, or the temporary folder cannot be written.
        """
        encoder = self._ledger.load_base(number)
        with _temporary_folder() as place:
            with disk_errors(place, _LEFT):
                save_model(self._base, encoder, place / _RUN_MODEL)
            yield collect_files(place / _RUN_MODEL, repository, self.card(number))

    def check_rounds(self, numbers: Sequence[int], repository: str) -> None:
        """Check the files and the cards of rounds, which differ in their weights and cards alone.

        Raises:
            ModelError: a file or a card of a round may not be published.
        """
        if not numbers:
            return
        with self.round(numbers[0], repository) as model:
            for number in numbers[1:]:
                collect_files(model.files["config.json"].parent, repository, self.card(number))

    def card(self, number: int) -> str:
        """The card of a round's base."""
        return model_card(self._ledger, self.hash_of(number), self._origin(), "round", number)

    def _origin(self) -> Origin:
        folder = self._base.folder
        reference, commit = str(self._ledger.settings["base"]), self._ledger.base_commit
        return Origin(reference, commit, read_licence(folder), has_sentence_pooling(folder))


Source = ModelSource | RunSource


def open_source(folder: Path, rounds: str = "") -> Source:
    """Open what is to be published.

    Args:
        folder: a run folder, or a model folder.
        rounds: as in `RunSource`.

    Raises:
        SettingsError: rounds are named, and the folder is not a run folder.
        ColdFusionError: as `ModelSource` and `RunSource`.
    """
    if (folder / "run.json").is_file():
        return RunSource(folder, rounds)
    if rounds:
        raise SettingsError(
            f"--rounds {rounds}: {folder} is not a run folder, so it has no rounds. Leave the option out.",
            ErrorCode.SETTINGS_CONFLICT,
        )
    return ModelSource(folder)


@contextlib.contextmanager
def _temporary_folder() -> Iterator[Path]:
    place = Path(tempfile.gettempdir())
    with disk_errors(place, _LEFT):
        temporary = tempfile.TemporaryDirectory(prefix="coldfusion-", dir=place)
    with temporary as folder:
        yield Path(folder)


def _choose(ledger: Ledger, rounds: str) -> _Choice:
    there = [number for number in ledger.rounds() if number]
    state = ledger.state.state
    is_finished = state == "finished" and (ledger.folder / _RUN_MODEL).is_dir()
    if not is_finished and not rounds:
        raise RunFolderError(
            f"{ledger.folder}: the run is not finished ({state}, {count(len(there), 'round')}), so it has no result. "
            f"Finish it with `coldfusion run --resume {ledger.folder}`, or name rounds, such as --rounds "
            f"{there[-1] if there else 1}: the last of them is then the model.",
            ErrorCode.RUN_FOLDER_INVALID,
        )
    wanted = there if rounds == "all" else _numbers(rounds)
    if unknown := [number for number in wanted if number not in there]:
        known = f"it has {there[0]} to {there[-1]}" if there else "it has none"
        raise SettingsError(
            f"--rounds {rounds}: the run has no round {unknown[0]}; {known}. Round 0 is its first base."
        )
    gone = [number for number in wanted if not (ledger.round_folder(number) / "base.safetensors").is_file()]
    kept = tuple(number for number in wanted if number not in gone)
    if gone and (rounds != "all" or not kept):
        raise RunFolderError(
            f"{ledger.folder}: the arrays of round {gone[0]} were removed (keep-last). Name rounds that have them."
        )
    note = f"Rounds {', '.join(map(str, gone))} are not sent: their arrays were removed (keep-last)."
    return _Choice(kept, None if is_finished else kept[-1] if kept else None, (note,) if gone else ())


def _numbers(rounds: str) -> Sequence[int]:
    try:
        return sorted({int(part) for part in rounds.split(",")}) if rounds else []
    except ValueError:
        raise SettingsError(f"--rounds must be all, or numbers separated by commas, but is '{rounds}'.") from None
