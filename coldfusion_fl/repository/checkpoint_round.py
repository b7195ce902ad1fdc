"""Finetuned checkpoints that came by hand, as one more round of a run folder: the paper's repository.

The round is made as the strategy makes one (Don-Yehiya et al. 2023, section 3). Only the contributions do not arrive
over a network: they are checkpoints on disk or on the Hub.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coldfusion_fl.aggregation.pipeline import Pipeline
from coldfusion_fl.aggregation.screening import Candidate, ScoreFunction, as_score_function
from coldfusion_fl.arrays.disk_arrays import ArrayFile
from coldfusion_fl.arrays.encoder import size_in_bytes
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.checkpoints.candidates import (
    Progress,
    check_disk,
    open_checkpoints,
    read_candidates,
)
from coldfusion_fl.checkpoints.checkpoint import Checkpoint, LoadedBase, load_base
from coldfusion_fl.checkpoints.fusing import check_pipeline
from coldfusion_fl.config.message_keys import CONTRIBUTIONS, REJECTED
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.errors import ErrorCode, RunFolderError
from coldfusion_fl.repository.aggregator import Aggregator
from coldfusion_fl.repository.provenance import contributor_names, describe_checkpoints
from coldfusion_fl.repository.results import write_results
from coldfusion_fl.repository.round_options import RoundOptions, settings_of_new_run, settings_of_round
from coldfusion_fl.repository.round_progress import RoundProgress
from coldfusion_fl.repository.server_state import ServerState
from coldfusion_fl.repository.server_validation import checked_score
from coldfusion_fl.run.events import ContributionReceived, Emit, RoundStarted, RunFinished, RunStarted
from coldfusion_fl.run.ledger import Ledger, ensure_free
from coldfusion_fl.run.records import RoundRecord, RoundSettings


@dataclass(frozen=True)
class AddedRound:
    """A round of checkpoints in a run folder.

    Attributes:
        ledger: the run.
        record: what happened in the round.
        is_new: whether the round was added now. If not, its checkpoints were the last round already, and only the model
            and the report were written again.
    """

    ledger: Ledger
    record: RoundRecord
    is_new: bool


@dataclass(frozen=True)
class _Contributions:
    """The checkpoints of a round, read and checked.

    Attributes:
        loaded: the run's first base, with the arrays of its newest base.
        opened: the checkpoints.
        candidates: their contributions by name, in the same order.
    """

    loaded: LoadedBase
    opened: Sequence[Checkpoint]
    candidates: Mapping[str, Candidate]


def fuse_into_run(
    folder: Path,
    checkpoints: Sequence[str],
    *,
    base: str = "",
    options: RoundOptions | None = None,
    progress: Progress = lambda step, number, reference: None,
    warn: Callable[[str], None] = lambda line: None,
) -> AddedRound:
    """Fuse finetuned checkpoints into the newest base of a run, as its next round; or begin a run with them.

    All checkpoints are read and checked before anything is written. The round is written as a whole: if the process is
    killed before, the run is as it was. If it is killed later, the same call writes what is missing.

    Args:
        folder: a run folder; or a folder to create, if a base is given.
        checkpoints: model folders, run folders (their model), `package:PATH` or Hub ids.
        base: the base of a new run; in a run, where its first base is now. Empty: where its settings say.
        options: what is other than the run's settings; None: nothing.
        progress: is called before each step.
        warn: is called with a sentence that a person should read.

    Raises:
        SettingsError: a component is unknown or out of range, two settings contradict each other, or a checkpoint is
            given twice.
        ModelError: the base or a checkpoint cannot be read; the message names it.
        MismatchError: a checkpoint has another architecture, vocabulary or shape than the base, or values that are not
            finite.
        RunFolderError: the folder holds no run and no base is given, another process is working on the run, the run is
            damaged or has another base, or the disk is full.
        DataError: the rows of the task for the server validation cannot be read.
    """
    began, options = time.time(), options or RoundOptions()
    is_new = not (folder / "run.json").exists()
    table = _settings_table(folder, base, options)
    settings = settings_of_round(table, options, folder)
    server = settings.server
    pipeline = Pipeline.parse(server.screening, server.fusion, server.server_optimizer)
    check_pipeline(
        pipeline,
        checkpoints,
        options.weights,
        has_score_function=bool(server.server_validation),
        min_contributions=settings.min_contributions,
        has_rollback=bool(server.rollback),
    )
    made = _round_settings(settings, pipeline, len(checkpoints))
    ledger = None if is_new else Ledger.reopen(folder)
    with ExitStack() as stack:
        if ledger:
            stack.enter_context(ledger.lock())
        progress("Reading", 0, base or settings.base)
        first, loaded = _load_bases(base or settings.base, ledger)
        place = ledger.folder if ledger else _existing_parent(folder)
        array_file = stack.enter_context(closing(ArrayFile(place)))
        found = _read(checkpoints, loaded, options, pipeline, array_file, place, progress)
        last = _same_round(ledger, found.candidates, made) if ledger else None
        score_fn = None if last else _score_fn(settings, pipeline, loaded, warn)
        # Everything has been checked. From here on, the folder is written.
        if ledger is None:
            ledger = Ledger.create(folder, table)
            stack.enter_context(ledger.lock())
        is_trained = "rounds" in table
        if not is_trained:  # a run whose contributors train stays finished, or stopped
            stack.enter_context(ledger.track_state())
        state = _load_state(ledger, settings, made, first, warn)
        if not last:
            progress("Fusing", len(checkpoints), "")
            ledger.emit(RunStarted())
            record = _add_round(state, ledger.emit, found, began, pipeline, settings, score_fn)
        progress("Writing", 0, str(folder / "model"))
        write_results(ledger, loaded.base, state.result if server.ema else None)
        if not last and (not is_trained or ledger.state.state == "finished"):
            ledger.emit(RunFinished())
    return AddedRound(ledger, last or record, is_new=not last)


def _settings_table(folder: Path, base: str, options: RoundOptions) -> dict[str, Any]:
    """The settings of the run as nested tables: those that it has, or those that it begins with."""
    if (folder / "run.json").exists():
        return Ledger(folder).settings
    if not base:
        raise RunFolderError(
            f"{folder}: this is not a run folder, because it has no run.json. Give the folder of a run, or begin one "
            "there with --base BASE."
        )
    ensure_free(folder)
    return settings_of_new_run(base, options)


def _round_settings(settings: Settings, pipeline: Pipeline, checkpoints: int) -> RoundSettings:
    server = settings.server
    return RoundSettings(
        fusion=str(pipeline.fusion),
        server_optimizer=str(pipeline.server_optimizer),
        ema=server.ema,
        screening=[str(rule) for rule in pipeline.screening],
        exclude=sorted(server.exclude),
        max_rejections=server.max_rejections,
        rollback=server.rollback or None,
        seed=settings.seed,
        contributors_per_round=checkpoints,
        min_contributions=settings.min_contributions,
        compression="float32",
        staleness_discount=server.staleness_discount,
    )


def _existing_parent(folder: Path) -> Path:
    return next(parent for parent in folder.absolute().parents if parent.is_dir())


def _load_bases(reference: str, ledger: Ledger | None) -> tuple[LoadedBase, LoadedBase]:
    """The run's first base, and the same with the arrays of its newest base.

    Raises:
        RunFolderError: the folder holds another base than the one that the run began with.
    """
    first = load_base(reference)
    rounds = ledger.rounds() if ledger else []
    if not ledger or not rounds:
        return first, first
    if encoder_hash(first.encoder) != ledger.record(0).base_sha256:
        raise RunFolderError(
            f"{ledger.folder}: {reference} is not the base that the run began with: its arrays have another hash. "
            "Give the folder of that base with --base.",
            ErrorCode.RUN_CHANGED,
        )
    return first, replace(first, encoder=ledger.load_base(rounds[-1]))


def _read(
    references: Sequence[str],
    loaded: LoadedBase,
    options: RoundOptions,
    pipeline: Pipeline,
    array_file: ArrayFile,
    place: Path,
    progress: Progress,
) -> _Contributions:
    opened = open_checkpoints(references, loaded, progress)
    names = contributor_names(opened)
    check_disk(place, 2 * size_in_bytes(loaded.encoder), len(opened))  # the round and the model are written beside
    candidates = read_candidates(opened, names, loaded, options.weights, pipeline.fusion, array_file, progress)
    return _Contributions(loaded, opened, candidates)


def _same_round(ledger: Ledger, candidates: Mapping[str, Candidate], made: RoundSettings) -> RoundRecord | None:
    """The last round, if it was made of these checkpoints with these settings; None: it was not."""
    last = ledger.records()[-1:]
    if not last or last[0].checkpoints is None or last[0].settings != made:
        return None
    facts = [*last[0].contributions.values(), *(one.facts for one in last[0].rejected if one.facts)]
    same = sorted(one.sha256 for one in facts) == sorted(candidate.sha256 for candidate in candidates.values())
    return last[0] if same else None


def _score_fn(
    settings: Settings, pipeline: Pipeline, loaded: LoadedBase, warn: Callable[[str], None]
) -> ScoreFunction | None:
    """The score on the validation split of a task, if a rule or the rollback needs it."""
    needed = bool(settings.server.rollback) or any(rule.needs_score_function for rule in pipeline.screening)
    return checked_score(settings, loaded, warn) if needed else None


def _load_state(
    ledger: Ledger, settings: Settings, made: RoundSettings, first: LoadedBase, warn: Callable[[str], None]
) -> ServerState:
    """The state after the last round. A run that has no round yet gets round 0, the base that it begins with."""
    server = settings.server
    state = ServerState(ledger, server.keep_last, server.ema, server.blend, made, warn)
    if state.load(first.encoder) is None:
        state.save(first.encoder, RoundRecord(round=0))
    return state


def _add_round(
    state: ServerState,
    emit: Emit,
    found: _Contributions,
    began: float,
    pipeline: Pipeline,
    settings: Settings,
    score_fn: ScoreFunction | None,
) -> RoundRecord:
    """Screen and fuse the contributions, apply the server optimizer, and save the round."""
    described = describe_checkpoints(found.opened, found.candidates, encoder_hash(found.loaded.encoder), state.records)
    record = RoundRecord(round=len(state.records), began=began, checkpoints=described)
    emit(RoundStarted(round=record.round, sampled=sorted(found.candidates)))
    for name, candidate in found.candidates.items():
        emit(ContributionReceived(round=record.round, name=name, metrics=dict(candidate.contribution.metrics)))
    score = as_score_function(score_fn, state.complete)
    rollback = settings.server.rollback or None
    before = state.optimizer_state
    aggregator = Aggregator(state, pipeline, settings.min_contributions, score, rollback)
    base = aggregator.next_base(RoundProgress(record, emit=emit), found.candidates)
    # Another optimizer than the run's leaves the state of the run's as it is.
    state.optimizer_state = {**before, **state.optimizer_state}
    record.metrics = {CONTRIBUTIONS: len(record.contributions), REJECTED: len(record.rejected)}
    state.save(state.complete(state.base if base is None else base), record)
    return record
