"""Undo: the last round of checkpoints is taken out of a run, and nothing of it is lost."""

from collections.abc import Callable
from pathlib import Path

from coldfusion_fl.arrays.mismatch import find_mismatch
from coldfusion_fl.checkpoints.checkpoint import LoadedBase, load_base
from coldfusion_fl.errors import ErrorCode, RunFolderError, SettingsError
from coldfusion_fl.model.frozen_weights import frozen_arrays
from coldfusion_fl.repository.results import write_results
from coldfusion_fl.repository.round_options import RoundOptions, settings_of_round
from coldfusion_fl.repository.server_state import ServerState
from coldfusion_fl.runs.events import RoundUndone, RunFinished, RunStarted
from coldfusion_fl.runs.integrity.problems import find_problems
from coldfusion_fl.runs.ledger import Ledger


def undo_round(folder: Path, number: int, *, base: str = "", warn: Callable[[str], None] = lambda line: None) -> Path:
    """Take back the last round of a run, if it was made of checkpoints.

    The folder of the round is moved to the folder `undone` of the run. The model and the report are written again as
    they were after the round before. If the process is killed after the move, the same call writes what is missing.

    Args:
        folder: the run folder.
        number: the round. It must be the last one, so that a repeated call takes back no other round.
        base: where the first base of the run is now; empty: where its settings say.
        warn: is called with a sentence that a person should read.

    Returns:
        Where the round is now.

    Raises:
        SettingsError: the round is not the last one, or contributors trained in it.
        ModelError: the base cannot be read.
        RunFolderError: the folder holds no run, another process is working on it, or the round before has no arrays.
    """
    ledger = Ledger.reopen(folder)
    for problem in find_problems(ledger):
        warn(problem)
    with ledger.lock():
        is_undone = number == len(ledger.rounds()) and (folder / "undone" / f"{number:03d}").exists()
        if not is_undone:
            _check(ledger, number)
        settings = settings_of_round(ledger.settings, RoundOptions(), folder)
        loaded = load_base(base or settings.base)
        _check_base(ledger, loaded)
        if is_undone:
            target = max((folder / "undone").glob(f"{number:03d}*"), key=lambda path: (len(path.name), path.name))
        else:
            target = ledger.set_aside(number)  # it checks that the round before has its arrays
            ledger.emit(RunStarted())
            ledger.emit(RoundUndone(round=number, folder=str(target.relative_to(folder))))
        ledger.state_file.round_saved(number - 1)
        server, made = settings.server, ledger.record(number - 1).settings
        assert made, "every saved round of a run with such settings has them"
        frozen = frozen_arrays(loaded.base, loaded.encoder, settings.finetune.freeze).keys()
        state = ServerState(
            ledger, server.keep_last, server.ema, server.blend, made, warn, lambda name: name not in frozen
        )
        state.load(loaded.encoder)
        write_results(ledger, loaded.base, state.result if server.ema else None)
        if not is_undone and ledger.state.state == "finished":
            ledger.emit(RunFinished())
    return target


def _check(ledger: Ledger, number: int) -> None:
    """Check that a round can be taken back."""
    last = ledger.rounds()[-1]
    if number != last or not number:
        raise SettingsError(
            f"{ledger.folder}: only the last round can be undone, and it is round {last}."
            if last
            else f"{ledger.folder}: there is no round to undo, because the run has its first base alone."
        )
    if ledger.record(number).checkpoints is None:
        raise SettingsError(
            f"{ledger.folder}: round {number} cannot be undone, because contributors trained in it. Only rounds that "
            "`coldfusion fuse` added can be."
        )


def _check_base(ledger: Ledger, loaded: LoadedBase) -> None:
    """Check that the base is of the run's model, before anything is moved."""
    if reason := find_mismatch(ledger.load_base(ledger.rounds()[-1]), loaded.encoder):
        raise RunFolderError(
            f"{ledger.folder}: {loaded.base.reference} is another model than the run's first base: {reason}. Give the "
            "folder where the first base is now with --base.",
            ErrorCode.RUN_CHANGED,
        )
