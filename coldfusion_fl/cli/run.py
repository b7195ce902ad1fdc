"""`coldfusion run`: a run of ColD Fusion, new or resumed."""

import contextlib
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.live import Live

from coldfusion_fl.cli.app import app, console, print_line
from coldfusion_fl.cli.ending import show_result
from coldfusion_fl.config.parsing import parse_settings, read_toml
from coldfusion_fl.config.settings import Settings
from coldfusion_fl.config.tables import frozen_part, to_table
from coldfusion_fl.data.catalogue import resolve_catalogues
from coldfusion_fl.data.paths import resolve_from
from coldfusion_fl.errors import ErrorCode, SettingsError, count
from coldfusion_fl.execution.display import Display, is_live
from coldfusion_fl.execution.resuming import check_has_tasks
from coldfusion_fl.execution.run_paths import new_run_folder, resume_command
from coldfusion_fl.extras import EXTRAS, require
from coldfusion_fl.formatting import duration
from coldfusion_fl.preflight.settings_check import check_server_table, check_settings
from coldfusion_fl.runs.integrity.problems import find_problems
from coldfusion_fl.runs.ledger import Ledger, ensure_free

if TYPE_CHECKING:
    from coldfusion_fl.execution.run_process import RunProcess

_INTERRUPTED = 130


@app.command()
def run(
    config: Annotated[
        Path | None,
        typer.Argument(
            help="The run's settings, a TOML file such as experiments/demo.toml. `coldfusion settings` lists them. Not "
            "needed with --resume.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The run folder. Default: the setting 'out', else a new folder in runs/."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", help="Resume the run in this folder after its last complete round."),
    ] = None,
    keep_last: Annotated[
        int | None,
        typer.Option("--keep-last", min=0, help="Keep the arrays of this many rounds, to save disk space; 0: of all."),
    ] = None,
    federation: Annotated[
        Path | None,
        typer.Option(
            "--federation",
            help="Run with the members of the federation in this folder, whose server runs on this machine. A resumed "
            "run stays in its federation.",
        ),
    ] = None,
) -> None:
    """Run ColD Fusion: with simulated contributors on this machine, or in a federation.

    Relative paths in CONFIG start from its own folder. The run folder gets the log, each round's base, a report and the
    fused model. The most important settings: base, tasks.seen, rounds, contributors-per-round, server.fusion,
    finetune.examples. `coldfusion settings` lists all.
    """
    if not config and not resume:
        raise SettingsError(
            "CONFIG is missing: name a TOML file such as experiments/demo.toml, or resume a run with --resume.",
            code=ErrorCode.SETTING_MISSING,
        )
    if out and resume:
        raise SettingsError(
            "--out and --resume cannot be combined: a resumed run stays in its folder.",
            code=ErrorCode.SETTINGS_CONFLICT,
        )
    # A run to resume may be a federation's, which needs no Ray; the engine of a simulation checks that itself.
    simulation = () if federation or resume else EXTRAS["simulation"]
    require("`coldfusion run`", *EXTRAS["models"], *simulation)
    from coldfusion_fl.execution.run_process import RunProcess

    if resume:
        check_has_tasks(Ledger(resume))
        federation = _federation_of(Ledger(resume), federation)
    settings = run_settings(config, out, resume, keep_last, is_federated=federation is not None)
    folder, source = Path(settings.out), config or Path(settings.out) / "run.json"
    if not resume:
        ensure_free(folder)
    # First the checks that take no time, here; then, in the run process, those that read all rows and the base.
    (check_server_table if federation else check_settings)(settings, str(source))
    if resume:
        ledger = Ledger.reopen(folder, to_table(settings))
        for problem in find_problems(ledger):
            print_line(problem)
        if _is_complete(ledger, settings, config):
            return
    engine, args = ("deployment", [str(federation.resolve())]) if federation else ("simulation", [])
    with RunProcess(to_table(settings), str(source), engine, args) as process:
        began = time.monotonic()
        console.print("Checking the base and the tasks")
        with console.status("Checking the base") as status:
            notes = process.wait_for_checks(status.update)
        for note in notes:
            print_line(note)
        console.print(f"The checks took {duration(time.monotonic() - began)}.", markup=False)
        # Nothing is written before all checks have passed.
        ledger = _open_ledger(settings, federation, is_new=not resume)
        process.start(ledger)
        _follow(process, ledger, Display(settings.rounds))


def run_settings(
    config: Path | None, out: Path | None, resume: Path | None, keep_last: int | None, *, is_federated: bool = False
) -> Settings:
    """The settings of a run with its folder and absolute paths.

    Args:
        config: the settings file; None: the settings of the run to resume.
        out: the folder of a new run.
        resume: the folder of the run to resume.
        keep_last: replaces the setting `server.keep-last`.
        is_federated: whether it runs in a federation. Its word embeddings are then frozen, unless the file or its
            preset sets `finetune.freeze`; a run that resumes keeps what it began with.

    Raises:
        ColdFusionError: the settings, or the folder to resume, cannot be read.
    """
    if config:
        table = read_toml(config, SettingsError)
        settings = resolve_paths(parse_settings(table, str(config)), config)
        if "freeze" not in table.get("finetune", {}):
            settings = _choose_freeze(settings, resume, is_federated)
        folder = (resume or out or _new_folder(settings, config)).resolve()
    else:
        folder = Path(resume or "").resolve()
        settings = parse_settings(Ledger(folder).settings, str(folder / "run.json"))
    server = settings.server if keep_last is None else settings.server.model_copy(update={"keep_last": keep_last})
    return settings.model_copy(update={"out": str(folder), "server": server, "resume": False})


def _choose_freeze(settings: Settings, resume: Path | None, is_federated: bool) -> Settings:
    """The same settings with the `finetune.freeze` of this run, where its file does not set it.

    A run that resumes keeps what it began with: it may be older than the setting, or than that of its preset. In a
    federation the default is to freeze the embeddings: trained ones would tell the server, and other members, which
    word pieces a member's rows hold.
    """
    freeze = settings.finetune.freeze
    if resume:
        freeze = frozen_part(Ledger(resume).settings)
    elif is_federated and "freeze" not in settings.finetune.model_fields_set:  # nor does its preset
        freeze = "embeddings"
        print_line(
            "finetune.freeze is not set, so this federation's run freezes the word embeddings: trained ones would tell "
            "which words the members' rows have. They stay those of each member's base, and are not sent. To train "
            'them, set freeze = "nothing" in [finetune].'
        )
    finetune = settings.finetune.model_copy(update={"freeze": freeze})
    return settings.model_copy(update={"finetune": finetune})


def resolve_paths(settings: Settings, config: Path) -> Settings:
    """The same settings with absolute paths; relative ones start from the folder of the settings file."""
    home = config.resolve().parent
    tasks = settings.tasks
    catalogue, data_root = resolve_catalogues(home, tasks.catalogue), resolve_from(home, tasks.data_root)
    base = str(home / settings.base) if (home / settings.base).is_dir() else settings.base
    out = resolve_from(home, settings.out)
    tasks = tasks.model_copy(update={"catalogue": catalogue, "data_root": data_root})
    tracking = settings.tracking.model_copy(update={"folder": resolve_from(home, settings.tracking.folder)})
    return settings.model_copy(update={"tasks": tasks, "tracking": tracking, "base": base, "out": out})


def _new_folder(settings: Settings, config: Path) -> Path:
    return Path(settings.out) if settings.out else new_run_folder(config.stem)


def _federation_of(ledger: Ledger, federation: Path | None) -> Path | None:
    """The federation of a run to resume: the one given, whose folder may have been moved, or that of its start."""
    recorded = ledger.federation
    if recorded == "" and federation:
        raise SettingsError(
            f"{ledger.folder} holds a simulation, which cannot be resumed in a federation. Leave --federation out, or "
            "start a new run.",
            code=ErrorCode.SETTINGS_CONFLICT,
        )
    return federation or (Path(recorded) if recorded else None)


def _is_complete(ledger: Ledger, settings: Settings, config: Path | None) -> bool:
    """Whether all rounds of a run to resume are done; then a message says so."""
    if not ledger.is_complete(settings.rounds):
        return False
    done = max(ledger.rounds())
    console.print(
        f"Nothing to do: the run in {ledger.folder} is complete ({count(done, 'round')}). To add rounds, raise "
        f"'rounds' in the settings file and resume: {shlex.join(['coldfusion', 'run', str(config or 'CONFIG')])} "
        f"--resume {shlex.quote(str(ledger.folder))}",
        markup=False,
        soft_wrap=True,
    )
    return True


def _open_ledger(settings: Settings, federation: Path | None, is_new: bool) -> Ledger:
    folder, table = Path(settings.out), to_table(settings)
    if not is_new:
        return Ledger.resume(folder, table)
    return Ledger.create(folder, table, str(federation.resolve()) if federation else "")


def _follow(process: "RunProcess", ledger: Ledger, display: Display) -> None:
    """Show a run until it ends, and then its result; ends this process where the run is interrupted."""
    # SIGTERM stops a run like Ctrl-C. A shell may have started this process with SIGINT ignored; it must work too.
    _handle_signals(signal.default_int_handler)
    try:
        _show_events(process, display)
    except KeyboardInterrupt:
        _handle_signals(signal.SIG_IGN)  # a second Ctrl-C must not interrupt the writing of the state
        _stop(process, ledger)
    process.conclude(ledger)
    show_result(ledger)


def _handle_signals(handler: Any) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def _show_events(process: "RunProcess", display: Display) -> None:
    """Print one line for each important event; in a terminal, with the live display below them.

    So the lines of all rounds stay in the terminal's history, and only the display itself is drawn again.
    """
    live = Live(display, console=console, refresh_per_second=4, transient=True)
    with live if is_live(console) else contextlib.nullcontext():
        for event in process.events():
            if event and (line := display.handle(event)):
                console.print(line, markup=False)


def _stop(process: "RunProcess", ledger: Ledger) -> NoReturn:
    process.stop()
    ledger.state_file.stopped("it was interrupted")
    last = ledger.state.last_round
    where = "before the first base was written" if last is None else f"after round {last}"
    console.print(
        f"Stopped {where}. All complete rounds are in {ledger.folder}\nTo resume: {resume_command(ledger)}",
        markup=False,
        soft_wrap=True,
    )
    sys.exit(_INTERRUPTED)
