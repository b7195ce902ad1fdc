"""The ServerApp: runs ColD Fusion as its settings say, keeps the run folder, and writes the result."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from flwr.app import ConfigRecord, Context
from flwr.common import log
from flwr.serverapp import Grid, ServerApp

from coldfusion_fl.aggregation.screening import ScoreFunction
from coldfusion_fl.aggregation.server_optimizer import blend
from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.config.parsing import parse_settings
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import flatten, to_table, unflatten
from coldfusion_fl.data.task import load_task
from coldfusion_fl.errors import RunError
from coldfusion_fl.evaluation.scores import score_task
from coldfusion_fl.fusion import Fisher
from coldfusion_fl.model.base import Base, open_base
from coldfusion_fl.model.encoder import load_encoder, save_model
from coldfusion_fl.run.ledger import Ledger
from coldfusion_fl.run.model_card import model_card
from coldfusion_fl.run.report import write_report

from .array_records import to_record
from .cold_fusion import ColDFusion

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run what Flower's run-config says."""
    settings = parse_settings(unflatten(context.run_config), "the run-config")
    folder = Path(settings.out or f"runs/{context.run_id}").resolve()
    make = Ledger.resume if settings.resume else Ledger.create
    ledger = make(folder, to_table(settings))
    ledger.event("began")
    serve(grid, settings, ledger)


def new_strategy(
    settings: Settings, base: Base, ledger: Ledger | None, node_names: Callable[[], Mapping[int, str]] | None = None
) -> ColDFusion:
    """The strategy that a run's settings describe.

    Args:
        settings: the run's.
        base: the model that it begins with.
        ledger: its run folder.
        node_names: the names that the server knows its nodes by, by node id; None: nodes say who they are.

    Raises:
        SettingsError: an operator, step or rule is unknown or out of range, or two settings contradict each other.
    """
    server = settings.server
    # Tasks name the members of a federation; one may have left since the run began. Elsewhere nodes may call themselves
    # as they like.
    members = set(node_names().values()) if node_names else set()
    awaited = [name for name in settings.contributors if name in members]
    return ColDFusion(
        contributors_per_round=settings.contributors_per_round,
        min_contributions=settings.min_contributions,
        min_available_nodes=len(awaited or settings.contributors),
        node_timeout=settings.node_timeout,
        seed=settings.seed,
        evaluate_every=settings.evaluate.every,
        fusion=server.fusion,
        server_optimizer=server.server_optimizer,
        compression=server.compression,
        ema=server.ema,
        screening=server.screening,
        exclude=server.exclude,
        staleness_discount=server.staleness_discount,
        max_rejections=server.max_rejections,
        score_fn=validation_score(settings, base) if server.server_validation else None,
        rollback=server.rollback or None,
        ledger=ledger,
        keep_last=server.keep_last,
        node_names=node_names,
        awaited_names=awaited,
    )


def validation_score(settings: Settings, base: Base) -> ScoreFunction:
    """The server's own held-out score: the frozen score of an encoder on the validation split of a task, in points."""
    task = load_task(settings.server.server_validation, settings.tasks.catalogue, settings.tasks.data_root)
    held_out = replace(task, test=task.validation)

    def score(encoder: Encoder) -> float:
        arrays = {name: encoder[name] for name in encoder}
        return score_task(base, arrays, held_out, "frozen", settings.finetune, settings.evaluate, settings.seed).value

    return score


def serve(
    grid: Grid, settings: Settings, ledger: Ledger, node_names: Callable[[], Mapping[int, str]] | None = None
) -> None:
    """Run ColD Fusion, or go on with it, and leave the fused model and the report in the run folder.

    Whatever ends the run before its end is written into the folder's status, and raised.

    Args:
        grid: Flower's.
        settings: the run's.
        ledger: its run folder.
        node_names: as in `new_strategy`.

    Raises:
        RunError: no round fused anything.
    """
    with ledger.lock(), ledger.track_status():
        base = open_base(settings.base)
        _serve(grid, settings, ledger, base, new_strategy(settings, base, ledger, node_names))


def _serve(grid: Grid, settings: Settings, ledger: Ledger, base: Base, strategy: ColDFusion) -> None:
    told = flatten({"finetune": to_table(settings.finetune), "evaluate": to_table(settings.evaluate)})
    told["run"] = ledger.run_id  # for what nodes keep from round to round, across the processes of one run
    if isinstance(strategy.fusion, Fisher):
        told["fisher-examples"] = settings.server.fisher_examples
    strategy.start(
        grid,
        to_record(load_encoder(base)),
        num_rounds=settings.rounds,
        timeout=settings.round_timeout,
        train_config=ConfigRecord(told),
        evaluate_config=ConfigRecord(told),
    )
    last = ledger.rounds()[-1]
    if not any(ledger.record(number).get("fused") for number in ledger.rounds()):
        raise RunError(
            f"no round fused anything: the base is the one that the run began with. {ledger.folder / 'progress.jsonl'} "
            "and `coldfusion log` say who was rejected, and why."
        )
    models = {"model": ledger.load_base(last)}
    if settings.server.ema:
        models["model-average"] = blend(load_encoder(base), ledger.load_average(last), settings.server.blend)
    for name, encoder in models.items():
        with ledger.writing(name) as folder:
            save_model(base, encoder, folder)
            (folder / "README.md").write_text(model_card(ledger), encoding="utf-8")
    write_report(ledger)
    ledger.event("finished")
    log(logging.INFO, "The fused model is in %s", ledger.folder / "model")
