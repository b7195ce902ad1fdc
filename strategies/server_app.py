"""The ServerApp: runs ColD Fusion as its settings say, keeps the run folder, and writes the result."""

import contextlib
import logging
from pathlib import Path

from flwr.app import ConfigRecord, Context
from flwr.common import log
from flwr.serverapp import Grid, ServerApp

from coldfusion_fl.base import open_base
from coldfusion_fl.card import model_card
from coldfusion_fl.encoder import load_encoder, save_model
from coldfusion_fl.errors import ColdFusionError
from coldfusion_fl.ledger import Ledger
from coldfusion_fl.report import write_report
from coldfusion_fl.settings import Settings, flatten, parse_settings, to_table, unflatten

from .arrays import to_record
from .cold_fusion import ColDFusion

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run what Flower's run-config says."""
    settings = parse_settings(unflatten(context.run_config), "the run-config")
    folder = Path(settings.out or f"runs/{context.run_id}").resolve()
    serve(grid, settings, Ledger.create(folder, to_table(settings)))


def serve(grid: Grid, settings: Settings, ledger: Ledger) -> None:
    """Run ColD Fusion and leave the fused model and the report in the run folder.

    Whatever ends the run before its end is written into the folder's status, and raised.
    """
    try:
        base = open_base(settings.base)
        encoder = load_encoder(base)
        told = flatten({"finetune": to_table(settings.finetune), "evaluate": to_table(settings.evaluate)})
        strategy = ColDFusion(
            contributors_per_round=settings.contributors_per_round,
            min_contributions=settings.min_contributions,
            min_available_nodes=len(settings.contributors),
            seed=settings.seed,
            evaluate_every=settings.evaluate.every,
            ledger=ledger,
        )
        strategy.start(
            grid,
            to_record(encoder),
            num_rounds=settings.rounds,
            timeout=settings.round_timeout,
            train_config=ConfigRecord(told),
            evaluate_config=ConfigRecord(told),
        )
        with ledger.writing("model") as folder:
            save_model(base, ledger.load_base(ledger.rounds()[-1]), folder)
            (folder / "README.md").write_text(model_card(ledger), encoding="utf-8")
        write_report(ledger)
        ledger.set_status("finished")
        ledger.event("finished")
        log(logging.INFO, "The fused model is in %s", ledger.folder / "model")
    except BaseException as end:
        reason = str(end) if isinstance(end, ColdFusionError) else f"{type(end).__name__}: {end}"
        with contextlib.suppress(ColdFusionError):  # a full disk may be the reason
            ledger.set_status("failed", reason=reason)
        raise
