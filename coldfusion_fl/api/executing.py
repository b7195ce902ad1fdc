"""Execute a simulation from Python: the checks, the run folder, and the events until the run ends."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import to_table
from coldfusion_fl.errors import SettingsError
from coldfusion_fl.execution.display import Display
from coldfusion_fl.execution.run_process import RunProcess
from coldfusion_fl.pages.run_page import write_page_of_finished_run
from coldfusion_fl.runs.ledger import Ledger

# Called with each line about the progress; None: nothing is printed.
Log = Callable[[str], object] | None


def execute(settings: Settings, source: str, log: Log) -> None:
    """Start the run of these settings, or resume the one in its folder, and wait until it ends.

    Args:
        settings: with the absolute path of the run folder.
        source: what the settings come from, for messages.
        log: called with each line about the progress.

    Raises:
        ColdFusionError: a check failed, and nothing was written; or the run failed.
        KeyboardInterrupt: the run was interrupted. Its state is `stopped`, and it can be resumed.
    """
    emit = log or (lambda line: None)
    folder, table = Path(settings.out), to_table(settings)
    with RunProcess(table, source) as process:
        emit("Checking the base and the tasks")
        for note in process.wait_for_checks():
            emit(note)
        ledger = Ledger.resume(folder, table) if (folder / "run.json").exists() else Ledger.create(folder, table)
        process.start(ledger)
        _follow(process, ledger, Display(settings.rounds), emit)
        process.conclude(ledger)
    write_page_of_finished_run(ledger)  # again, because the peak memory was not known before


def _follow(process: RunProcess, ledger: Ledger, display: Display, emit: Callable[[str], object]) -> None:
    try:
        for event in process.events():
            if event and (line := display.handle(event)):
                emit(line)
    except BaseException as end:  # Ctrl-C, or an error in `log`
        with _ignored_interrupts():  # a second Ctrl-C must not interrupt the writing of the state
            process.stop()
            ledger.state_file.stopped("it was interrupted" if isinstance(end, KeyboardInterrupt) else f"{end!r}")
        raise


@contextlib.contextmanager
def _ignored_interrupts() -> Iterator[None]:
    """Within this context, Ctrl-C does nothing. In another thread than the main one, it never does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)  # None: it was not set by Python


def require_simulation(ledger: Ledger) -> None:
    """Check that a run to resume is a simulation.

    Raises:
        SettingsError: it is a federation's.
    """
    if ledger.federation:
        raise SettingsError(
            f"{ledger.folder} is the run of the federation in {ledger.federation}. Resume it with: coldfusion run "
            f"--resume {ledger.folder}"
        )
