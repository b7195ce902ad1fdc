"""What the ServerApp does: it executes a run as its settings say, and writes its results into the run folder."""

import functools
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from flwr.app import ConfigRecord, Context
from flwr.common import log
from flwr.serverapp import Grid

from coldfusion_fl.aggregation.screening import ScoreFunction
from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.config.message_keys import FROZEN_SHA256
from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import flatten, to_table, unflatten
from coldfusion_fl.data.task import load_task
from coldfusion_fl.errors import ErrorCode, RunError
from coldfusion_fl.evaluation.validation import validation_score_fn
from coldfusion_fl.machine import machine_facts
from coldfusion_fl.model.base import Base, open_base
from coldfusion_fl.model.encoder import load_encoder
from coldfusion_fl.model.export import check_export
from coldfusion_fl.model.frozen_weights import frozen_arrays
from coldfusion_fl.repository.results import write_results
from coldfusion_fl.runs.events import RunFinished, RunStarted
from coldfusion_fl.runs.integrity.problems import find_problems
from coldfusion_fl.runs.ledger import Ledger
from coldfusion_fl.tracking.registry import check_tracking
from coldfusion_fl.tracking.track import track

from .cold_fusion import ColDFusion
from .nodes.array_records import move_to_record
from .nodes.membership import Member
from .rounds.evaluation import mean_scores


def main(grid: Grid, context: Context) -> None:
    """Execute the run that Flower's run-config describes."""
    settings = parse_settings(unflatten(context.run_config), "the run-config")
    check_tracking(settings.tracking)
    folder = Path(settings.out or f"runs/{context.run_id}").resolve()
    open_ledger = Ledger.resume if settings.resume else Ledger.create
    ledger = open_ledger(folder, to_table(settings))
    ledger.emit(RunStarted())
    serve(grid, settings, ledger)


def new_strategy(
    settings: Settings,
    base: Base,
    ledger: Ledger | None,
    node_names: Callable[[], Mapping[int, str]] | None = None,
    frozen: Collection[str] = (),
) -> ColDFusion:
    """The strategy that a run's settings describe.

    Args:
        settings: the run's.
        base: the model that it begins with.
        ledger: its run folder.
        node_names: the names that the server knows its nodes by, by node ID; None: nodes name themselves.
        frozen: the names of the arrays that contributors do not change.

    Raises:
        SettingsError: an operator, optimizer or rule is unknown or out of range, or two settings contradict each other.
    """
    server = settings.server
    # In a federation, tasks are named like members, and a member may have left since the run began. Elsewhere nodes may
    # have any name, so that only their number can be waited for.
    members = set(node_names().values()) if node_names else set()
    awaited = [name for name in settings.task_names if name in members]
    return ColDFusion(
        contributors_per_round=settings.contributors_per_round,
        min_contributions=settings.min_contributions,
        min_available_nodes=len(awaited or settings.task_names),
        node_timeout=settings.node_timeout,
        seed=settings.seed,
        evaluate_every=settings.evaluate.every,
        fusion=server.fusion,
        server_optimizer=server.server_optimizer,
        compression=server.compression,
        ema=server.ema,
        blend=server.blend,
        screening=server.screening,
        exclude=server.exclude,
        staleness_discount=server.staleness_discount,
        max_rejections=server.max_rejections,
        score_fn=validation_score(settings, base) if server.server_validation else None,
        rollback=server.rollback or None,
        shared_keys=(lambda name: name not in frozen) if frozen else None,
        ledger=ledger,
        keep_last=server.keep_last,
        contributor_names="query",
        evaluate_metrics_aggr_fn=mean_scores,
        node_names=node_names,
        awaited_names=awaited,
    )


def validation_score(settings: Settings, base: Base) -> ScoreFunction:
    """The server's own score: the frozen score of an encoder on the validation split of a task, in points."""
    task = load_task(settings.server.server_validation, settings.tasks.catalogue, settings.tasks.data_root)
    warn = functools.partial(log, logging.WARNING, "%s")
    return validation_score_fn(base, task, settings.finetune, settings.evaluate, settings.seed, warn)


def serve(
    grid: Grid,
    settings: Settings,
    ledger: Ledger,
    node_names: Callable[[], Mapping[int, str]] | None = None,
    members: Collection[Member] = (),
) -> None:
    """Execute or resume a run, and leave the fused model and the report in the run folder.

    If the run ends early, the reason is written into the folder's state, and raised.

    Args:
        grid: Flower's.
        settings: the run's.
        ledger: its run folder.
        node_names: as in `new_strategy`.
        members: nodes whose names are known already, such as those of a simulation; they are not queried.

    Raises:
        ModelError: the base cannot be loaded, or no model folder can be made of its files.
        RunError: no round made a new base.
    """
    with ledger.lock(), ledger.track_state():
        for problem in find_problems(ledger):
            log(logging.WARNING, "%s", problem)
        base = open_base(settings.base)
        ledger.note_machine(machine_facts())
        ledger.note_base_commit(base.commit)
        check_export(base)  # the model is written after all rounds: what is wrong with its folder must show before
        encoder = load_encoder(base)
        frozen, frozen_sha256 = _find_frozen(settings, base, encoder, ledger)
        strategy = new_strategy(settings, base, ledger, node_names, frozen)
        strategy.known_members = members
        config = _node_config(settings, ledger, strategy, frozen_sha256)
        with track(ledger, settings.tracking):
            strategy.start(
                grid,
                move_to_record(encoder),
                num_rounds=settings.rounds,
                timeout=settings.round_timeout,
                train_config=config,
                evaluate_config=config,
            )
            _write_results(settings, ledger, base, strategy)
        # Only now: the process of a simulation may be ended when it has said this.
        ledger.emit(RunFinished())


def _find_frozen(settings: Settings, base: Base, encoder: Encoder, ledger: Ledger) -> tuple[frozenset[str], str]:
    """The names of the arrays that contributors do not change, and their hash; empty where there are none."""
    frozen = frozen_arrays(base, encoder, settings.finetune.freeze)
    if not frozen:
        return frozenset(), ""
    # A run that resumes has them in its rounds, and the folder of its base may have changed since.
    rounds = ledger.rounds()
    run_arrays = ledger.load_base(rounds[-1]) if rounds else frozen
    return frozenset(frozen), encoder_hash({name: run_arrays[name] for name in frozen})


def _node_config(settings: Settings, ledger: Ledger, strategy: ColDFusion, frozen_sha256: str) -> ConfigRecord:
    """What the nodes need to know of the run. Its ID lets them keep their state across the processes of one run."""
    config = flatten({"finetune": to_table(settings.finetune), "evaluate": to_table(settings.evaluate)})
    config["run"] = ledger.run_id
    if frozen_sha256:
        config[FROZEN_SHA256] = frozen_sha256
    if strategy.pipeline.fusion.needs_fisher:
        config["fisher-examples"] = settings.server.fisher_examples
    return ConfigRecord(config)


def _write_results(settings: Settings, ledger: Ledger, base: Base, strategy: ColDFusion) -> None:
    """Write the result as `model`, the last base beside it where it is another encoder, and the report.

    Raises:
        RunError: no round made a new base.
    """
    records = ledger.records()
    if not any(record.fused for record in records):
        raise RunError(
            "no round fused anything: the base is the one that the run began with. The rejections and their reasons "
            f"are in {ledger.folder / 'progress.jsonl'}, and `coldfusion log` shows them.",
            ErrorCode.NOTHING_FUSED,
        )
    write_results(ledger, base, strategy.result if settings.server.ema else None)
    log(logging.INFO, "The fused model is in %s", ledger.folder / "model")
