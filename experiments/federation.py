"""A federation of an experiment: a whole run of ColD Fusion on Flower, or the rest of one."""

from collections.abc import Callable, Mapping
from pathlib import Path

from coldfusion_fl.cli.display import Display
from coldfusion_fl.cli.run_process import RunProcess
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.errors import RunError
from coldfusion_fl.run.ledger import Ledger

from .attacks import parse_attacks, with_shuffled_labels, write_attacks


def federate(settings: Settings, folder: Path, attacks: Mapping[str, str], log: Callable[[str], None]) -> Ledger:
    """Run a federation to its end; one that is there goes on after its last whole round.

    Args:
        settings: the run's.
        folder: the run folder.
        attacks: contributors by what they do, as text.
        log: told what happens, a line each time.

    Returns:
        The run folder, opened.

    Raises:
        ColdFusionError: what is wrong with the settings, or ended the run before its end.
    """
    folder = folder.resolve()
    if Ledger(folder).status.get("state") == "finished":
        return Ledger(folder)
    parsed = parse_attacks(attacks)
    rows = folder.with_name(f"{folder.name}-rows")
    catalogue = with_shuffled_labels(settings.tasks, parsed, rows, settings.seed)
    tasks = settings.tasks.model_copy(update={"catalogue": catalogue})
    settings = settings.model_copy(update={"out": str(folder), "tasks": tasks})
    table, display = to_table(settings), Display(settings.rounds)
    with RunProcess(table, str(folder)) as run:
        run.wait_for_checks()
        ledger = (Ledger.resume if (folder / "run.json").exists() else Ledger.create)(folder, table)
        if attacks:
            write_attacks(folder, attacks)
        run.begin(ledger)
        for event in run.events():
            if event and (line := display.take(event)) and event["kind"] in ("round", "rejected", "kept", "excluded"):
                log(line)
        code = run.exit_code
    if code or ledger.status.get("state") != "finished":
        reason = ledger.status.get("reason") or f"its process ended with code {code}"
        raise RunError(
            f"a federation failed: {reason}\nIts log is {folder / 'log.txt'}\nStart the experiment again to go on "
            "after its last whole round."
        )
    return ledger
