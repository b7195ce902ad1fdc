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
from coldfusion_fl.model.frozen_weights import frozen_arrays
from coldfusion_fl.repository.aggregator import Aggregator
from coldfusion_fl.repository.provenance import contributor_names, describe_checkpoints
from coldfusion_fl.repository.results import write_results
from coldfusion_fl.repository.round_options import RoundOptions, settings_of_new_run, settings_of_round
from coldfusion_fl.repository.round_progress import RoundProgress
from coldfusion_fl.repository.server_state import ServerState
from coldfusion_fl.repository.server_validation import checked_score
from coldfusion_fl.runs.events import ContributionReceived, Emit, RoundStarted, RunFinished, RunStarted
from coldfusion_fl.runs.integrity.problems import find_problems
from coldfusion_fl.runs.ledger import Ledger, ensure_free
from coldfusion_fl.runs.records import CheckpointRecord, RoundRecord, RoundSettings


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
class _Plan:
    """What a round is to be, before anything is loaded.

    Attributes:
        folder: the run folder.
        table: the run's settings as nested tables.
        settings: the same with what a person gave in their place.
        pipeline: screening, fusion and server optimizer.
        made: what is recorded of the settings.
        checkpoints: the references of the checkpoints.
        weights: a relative weight for each; empty: all are equal.
    """

    folder: Path
    table: Mapping[str, Any]
    settings: Settings
    pipeline: Pipeline
    made: RoundSettings
    checkpoints: Sequence[str]
    weights: Sequence[float]

    @property
    def is_trained(self) -> bool:
        """Whether the run has rounds in which contributors train."""
        return "rounds" in self.table


@dataclass(frozen=True)
class _Contributions:
    """The checkpoints of a round, read and checked.

    Attributes:
        opened: the checkpoints.
        candidates: their contributions by name, in the same order.
        described: where they come from, by name.
    """

    opened: Sequence[Checkpoint]
    candidates: Mapping[str, Candidate]
    described: Mapping[str, CheckpointRecord]


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
        options: what differs from the run's settings; None: nothing.
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
    began = time.time()
    plan = _plan(folder, checkpoints, base, options or RoundOptions())
    settings = plan.settings
    ledger = Ledger.reopen(folder) if (folder / "run.json").exists() else None
    for problem in find_problems(ledger) if ledger else []:
        warn(problem)
    with ExitStack() as stack:
        if ledger:
            stack.enter_context(ledger.lock())
        progress("Reading", 0, base or settings.base)
        first = load_base(base or settings.base)
        state = _load_state(plan, ledger, first, warn)
        newest = replace(first, encoder=state.complete(state.base)) if state.records else first
        array_file = stack.enter_context(closing(ArrayFile(_existing_folder(folder))))
        found = _read(plan, newest, state, array_file, progress)
        last = _same_round(plan, found, state.records)
        score_fn = None if last else _score_fn(plan, newest, warn)
        # Everything has been checked. From here on, the folder is written.
        if ledger is None:
            ledger = state.ledger = Ledger.create(folder, plan.table)
            stack.enter_context(ledger.lock())
        if not plan.is_trained:  # another run stays finished, or stopped
            stack.enter_context(ledger.track_state())
        if not state.records:
            ledger.note_base_commit(first.base.commit)
            state.save(first.encoder, RoundRecord(round=0))
        if not last:
            progress("Fusing", len(checkpoints), "")
            record = _add_round(plan, state, ledger.emit, found, began, score_fn)
        progress("Writing", 0, str(folder / "model"))
        write_results(ledger, first.base, state.result if settings.server.ema else None)
        if not last and (not plan.is_trained or ledger.state.state == "finished"):
            ledger.emit(RunFinished())
    return AddedRound(ledger, last or record, is_new=not last)


def _plan(folder: Path, checkpoints: Sequence[str], base: str, options: RoundOptions) -> _Plan:
    """Check all that needs neither weights nor rows."""
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
    return _Plan(folder, table, settings, pipeline, made, checkpoints, options.weights)


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


def _existing_folder(folder: Path) -> Path:
    """The folder, or the first one above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())


def _load_state(plan: _Plan, ledger: Ledger | None, first: LoadedBase, warn: Callable[[str], None]) -> ServerState:
    """The state after the last round; it has no records where the run has no round yet.

    Raises:
        RunFolderError: the first base is another one than that of the run.
    """
    server = plan.settings.server
    if ledger and ledger.rounds() and encoder_hash(first.encoder) != ledger.record(0).base_sha256:
        raise RunFolderError(
            f"{ledger.folder}: {first.base.reference} is not the base that the run began with: its arrays have another "
            "hash. Give the folder of that base with --base.",
            ErrorCode.RUN_CHANGED,
        )
    frozen = frozen_arrays(first.base, first.encoder, plan.settings.finetune.freeze).keys()
    if frozen:
        warn(f"the run keeps its {plan.settings.finetune.freeze} (freeze): those of the checkpoints are left out.")
    state = ServerState(
        ledger, server.keep_last, server.ema, server.blend, plan.made, warn, lambda name: name not in frozen
    )
    state.load(first.encoder)
    return state


def _read(
    plan: _Plan, newest: LoadedBase, state: ServerState, array_file: ArrayFile, progress: Progress
) -> _Contributions:
    opened = open_checkpoints(plan.checkpoints, newest, progress)
    names = contributor_names(opened)
    place = _existing_folder(plan.folder)
    check_disk(place, size_in_bytes(newest.encoder), len(opened), _results(plan, is_new=not state.records))
    candidates = read_candidates(
        opened, names, newest, plan.weights, plan.pipeline.fusion, array_file, progress, state.constants
    )
    base_hash = encoder_hash(newest.encoder)
    described = describe_checkpoints(opened, candidates, plan.weights, base_hash, state.records)
    return _Contributions(opened, candidates, described)


def _results(plan: _Plan, *, is_new: bool) -> int:
    """The number of encoders that are written: of the round, of the model, and, in a new run, of round 0."""
    rounds = 2 if is_new else 1
    # With a moving average, each round has one, and the last base stands beside the model.
    return 2 * (rounds + 1) if plan.settings.server.ema else rounds + 1


def _same_round(plan: _Plan, found: _Contributions, records: Sequence[RoundRecord]) -> RoundRecord | None:
    """The last round, if it fused these checkpoints with these settings; None: it did not."""
    last = records[-1] if records else None
    if last is None or not last.fused or last.checkpoints is None or last.settings != plan.made:
        return None
    facts = dict(last.contributions) | {one.name: one.facts for one in last.rejected if one.facts}
    before = {name: (facts[name].sha256, one.weight) for name, one in last.checkpoints.items() if name in facts}
    now = {name: (candidate.sha256, found.described[name].weight) for name, candidate in found.candidates.items()}
    return last if before == now else None


def _score_fn(plan: _Plan, newest: LoadedBase, warn: Callable[[str], None]) -> ScoreFunction | None:
    """The score on the validation split of a task, if a rule or the rollback needs it."""
    rules = plan.pipeline.screening
    needed = bool(plan.settings.server.rollback) or any(rule.needs_score_function for rule in rules)
    return checked_score(plan.settings, newest, warn) if needed else None


def _add_round(
    plan: _Plan,
    state: ServerState,
    emit: Emit,
    found: _Contributions,
    began: float,
    score_fn: ScoreFunction | None,
) -> RoundRecord:
    """Screen and fuse the contributions, apply the server optimizer, and save the round."""
    record = RoundRecord(round=len(state.records), began=began, checkpoints=dict(found.described))
    emit(RunStarted())
    emit(RoundStarted(round=record.round, sampled=sorted(found.candidates)))
    for name, candidate in found.candidates.items():
        emit(ContributionReceived(round=record.round, name=name, metrics=dict(candidate.contribution.metrics)))
    score = as_score_function(score_fn, state.complete)
    before, rollback = state.optimizer_state, plan.settings.server.rollback or None
    aggregator = Aggregator(state, plan.pipeline, plan.settings.min_contributions, score, rollback)
    base = aggregator.next_base(RoundProgress(record, emit=emit), found.candidates)
    # An optimizer without a state, in place of the run's for this round, must not lose the state of the run's.
    state.optimizer_state = {**before, **state.optimizer_state}
    record.metrics = {CONTRIBUTIONS: len(record.contributions), REJECTED: len(record.rejected)}
    state.save(state.complete(state.base if base is None else base), record)
    return record
