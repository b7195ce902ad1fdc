"""A federation of an experiment: a whole run of ColD Fusion on Flower, or the rest of one."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.errors import RunError
from coldfusion_fl.execution.display import Display
from coldfusion_fl.execution.run_process import RunProcess
from coldfusion_fl.runs.events import BaseKept, ContributionRejected, ContributorExcluded, RoundStarted
from coldfusion_fl.runs.ledger import Ledger

from .attacks.attack import parse_attacks
from .attacks.labels import with_shuffled_labels

_LOGGED = (RoundStarted, ContributionRejected, BaseKept, ContributorExcluded)


def federate(settings: Settings, folder: Path, attacks: Mapping[str, str], log: Callable[[str], None]) -> Ledger:
    """Run a federation to its end; an interrupted one is resumed after its last complete round.

    Args:
        settings: the run's settings.
        folder: the run folder.
        attacks: attacks as text, by contributor.
        log: called with each line about the progress.

    Returns:
        The run folder, opened.

    Raises:
        ColdFusionError: a setting is wrong, or the run failed.
    """
    folder = folder.resolve()
    if Ledger(folder).state.state == "finished":
        return Ledger(folder)
    parsed = parse_attacks(attacks)
    rows = folder.with_name(f"{folder.name}-rows")
    catalogue = with_shuffled_labels(settings.tasks, parsed, rows, settings.seed)
    tasks = settings.tasks.model_copy(update={"catalogue": catalogue})
    settings = settings.model_copy(update={"out": str(folder), "tasks": tasks})
    table, display = to_table(settings), Display(settings.rounds)
    engine, args = ("attacked-simulation", [json.dumps(dict(attacks))]) if attacks else ("simulation", [])
    with RunProcess(table, str(folder), engine, args) as process:
        process.wait_for_checks()
        ledger = (Ledger.resume if (folder / "run.json").exists() else Ledger.create)(folder, table)
        process.start(ledger)
        for event in process.events():
            if event and (line := display.handle(event)) and isinstance(event, _LOGGED):
                log(line)
        code = process.exit_code
    if code or ledger.state.state != "finished":
        reason = ledger.state.reason or f"its process ended with code {code}"
        raise RunError(
            f"a federation failed: {reason}\nIts log is {folder / 'log.txt'}\nStart the experiment again to resume it "
            "after its last complete round."
        )
    return ledger
