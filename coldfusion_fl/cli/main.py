"""The command line: `coldfusion`."""

import dataclasses
import signal
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.live import Live
from rich.table import Table

from coldfusion_fl.cli.display import Display, format_duration, plain_console
from coldfusion_fl.cli.run_process import RunProcess
from coldfusion_fl.cli.settings import settings as list_settings
from coldfusion_fl.config.parsing import parse_settings, parse_table, read_settings
from coldfusion_fl.config.settings import MODES, EvaluateSettings, FinetuneSettings, Settings
from coldfusion_fl.config.tables import split_names, to_table
from coldfusion_fl.data.catalogue import SHIPPED, read_catalogues, resolve_catalogues
from coldfusion_fl.data.paths import resolve_from
from coldfusion_fl.errors import ColdFusionError, RunError, SettingsError
from coldfusion_fl.run.ledger import Ledger, ensure_free
from coldfusion_fl.run.preflight import check_server_words, check_words
from coldfusion_fl.versions import format_versions

app = typer.Typer(
    name="coldfusion",
    help="ColD Fusion on Flower: many parties improve one pretrained language model together without sharing data.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = plain_console()

Catalogues = Annotated[
    str,
    typer.Option(
        "--catalogue",
        help=f"Shipped catalogues ({', '.join(SHIPPED)}) or TOML files, with commas between them.",
    ),
]
DataRoot = Annotated[
    str,
    typer.Option("--data-root", help="Where the catalogue's relative paths begin. Default: the catalogue's folder."),
]


def main() -> None:
    """Run the command line; errors of ours become one message and an exit code."""
    try:
        app(standalone_mode=True)
    except ColdFusionError as wrong:
        plain_error(str(wrong))
        sys.exit(wrong.exit_code)


def plain_error(message: str) -> None:
    """Print a message to stderr."""
    print(f"coldfusion: {message}", file=sys.stderr)


def _show_version(wanted: bool) -> None:
    if wanted:
        console.print(format_versions(), markup=False)
        raise typer.Exit


@app.callback()
def _every_command(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the versions that must be equal."),
    ] = False,
) -> None:
    pass


@app.command()
def run(
    config: Annotated[
        Path | None,
        typer.Argument(
            help="The run's settings, a TOML file, such as experiments/demo.toml. `coldfusion settings` lists them. "
            "Not needed with --resume."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The run folder. Default: 'out' in CONFIG, else a new folder in runs/."),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option("--resume", help="Go on with the run in this folder, after its last whole round."),
    ] = None,
    keep_last: Annotated[
        int | None,
        typer.Option("--keep-last", min=0, help="Keep the arrays of so many rounds, to bound the disk; 0: of all."),
    ] = None,
    federation: Annotated[
        Path | None,
        typer.Option(
            "--federation",
            help="Run it with the members of the federation in this folder, whose server runs on this machine. A run "
            "that goes on does so where it began.",
        ),
    ] = None,
) -> None:
    """Run ColD Fusion: with simulated contributors on this machine, or in a federation.

    The most important settings: base, tasks.seen, rounds, contributors-per-round, server.fusion, finetune.examples.
    `coldfusion settings` lists all.

    Paths in CONFIG begin at its own folder. The run folder gets the log, each round's base, a report and the model.
    """
    if not config and not resume:
        raise SettingsError("there is no CONFIG: name a TOML file, such as experiments/demo.toml, or --resume a run.")
    if out and resume:
        raise SettingsError("--out and --resume are two folders for one run: a run goes on in its own folder.")
    settings = _settings(config, out, resume, keep_last)
    folder, source = Path(settings.out), config or Path(settings.out) / "run.json"
    if resume:
        federation = _begun_in(Ledger(folder), federation)
    else:
        ensure_free(folder)
    (check_server_words if federation else check_words)(settings, str(source))
    with RunProcess(to_table(settings), str(source), federation) as started:
        with console.status("Checking the tasks and the base"):
            started.wait_for_checks()
        if ledger := _ledger(settings, config, federation, is_new=not resume):
            started.begin(ledger)
            _follow(started, ledger, Display(settings.rounds))


def _begun_in(ledger: Ledger, federation: Path | None) -> Path | None:
    """Where a run goes on: in the federation that it began in, whose folder may have been moved, or in a simulation."""
    begun = ledger.federation
    if begun == "" and federation:
        raise SettingsError(
            f"{ledger.folder} began as a simulation, and goes on as one: leave --federation out, or begin a new run."
        )
    return federation or (Path(begun) if begun else None)


def _ledger(settings: Settings, config: Path | None, federation: Path | None, is_new: bool) -> Ledger | None:
    """The folder of a run, new or to go on with; None, and said so, where all of its rounds are done."""
    folder = Path(settings.out)
    if not is_new:
        ledger = Ledger.resume(folder, to_table(settings))
        if settings.rounds <= (done := max(ledger.rounds(), default=-1)) and (folder / "model").exists():
            ledger.set_status("finished")
            name = config or "CONFIG"
            console.print(
                f"Nothing to do: {folder} holds all its {done} rounds. For more, set 'rounds' higher in its settings' "
                f"file: coldfusion run {name} --resume {folder}",
                markup=False,
            )
            return None
        return ledger
    return Ledger.create(folder, to_table(settings), str(federation.resolve()) if federation else "")


def _settings(config: Path | None, out: Path | None, resume: Path | None, keep_last: int | None) -> Settings:
    """The settings of a run, new or to go on with, with its folder in them."""
    if config:
        settings = _at_home(read_settings(config), config)
        folder = (resume or out or _run_folder(settings, config)).resolve()
    else:
        folder = Path(resume or "").resolve()
        settings = parse_settings(Ledger(folder).settings, str(folder / "run.json"))
    server = settings.server if keep_last is None else settings.server.model_copy(update={"keep_last": keep_last})
    return settings.model_copy(update={"out": str(folder), "server": server, "resume": False})


def _at_home(settings: Settings, config: Path) -> Settings:
    """The same settings with relative paths made absolute: they begin at the file they stand in."""
    home = config.resolve().parent
    tasks = settings.tasks
    catalogue, data_root = resolve_catalogues(home, tasks.catalogue), resolve_from(home, tasks.data_root)
    base = str(home / settings.base) if (home / settings.base).is_dir() else settings.base
    out = resolve_from(home, settings.out)
    tasks = tasks.model_copy(update={"catalogue": catalogue, "data_root": data_root})
    return settings.model_copy(update={"tasks": tasks, "base": base, "out": out})


def _run_folder(settings: Settings, config: Path) -> Path:
    if settings.out:
        return Path(settings.out)
    first = Path("runs") / config.stem
    others = (first.with_name(f"{first.name}-{number}") for number in range(2, 10_000))
    return next(folder for folder in (first, *others) if not folder.exists())


def _follow(run: RunProcess, ledger: Ledger, display: Display) -> None:
    """Show a run until it ends, and then what it came to."""
    # A polite kill is as good as Ctrl-C, and Ctrl-C counts even where a shell started us with it ignored.
    _when_stopped(signal.default_int_handler)
    try:
        if console.is_terminal:
            with Live(display, console=console, refresh_per_second=4, transient=True):
                for event in run.events():
                    if event:
                        display.take(event)
        else:
            for event in run.events():
                if event and (line := display.take(event)):
                    console.print(line, markup=False)
    except KeyboardInterrupt:
        _when_stopped(signal.SIG_IGN)  # an impatient second one may not lose where the run stopped
        run.stop()
        ledger.set_status("stopped", reason="it was interrupted")
        last = ledger.status.get("last_round")
        where = "before the first base was written" if last is None else f"after round {last}"
        console.print(
            f"Stopped {where}. What was done is in {ledger.folder}\nTo go on: coldfusion run --resume {ledger.folder}",
            markup=False,
        )
        sys.exit(130)
    code = run.exit_code
    run.stop()
    if code or ledger.status.get("state") != "finished":
        reason = ledger.status.get("reason") or f"its process ended with code {code}"
        ledger.set_status("failed", reason=reason)
        raise RunError(
            f"the run failed: {reason}\nThe log is {ledger.folder / 'log.txt'}\nTo go on after its last whole round: "
            f"coldfusion run --resume {ledger.folder}"
        )
    ledger.set_status("finished", peak_memory_bytes=run.peak_memory)
    _show_result(ledger)


def _when_stopped(handler: Any) -> None:
    for stop in (signal.SIGINT, signal.SIGTERM):
        signal.signal(stop, handler)


def _show_result(ledger: Ledger) -> None:
    from coldfusion_fl.run.report import score_table, summarize

    summary = summarize(ledger)
    console.print(score_table(summary))
    for rejection in summary["rejected"]:
        console.print(
            f"Rejected in round {rejection['round']}: {rejection['name']}, {rejection['reason']}", markup=False
        )
    seconds, memory = summary["seconds"], ledger.status.get("peak_memory_bytes", 0)
    console.print(
        f"\n{format_duration(seconds['total'])}, of it {format_duration(seconds['rounds'])} training and "
        f"{format_duration(seconds['evaluations'])} evaluation. Peak memory {memory / 2**30:.1f} GiB.",
        markup=False,
    )
    here = Path.cwd()
    folder = ledger.folder.relative_to(here) if ledger.folder.is_relative_to(here) else ledger.folder
    console.print(
        f"""
The fused model   {folder}/model
The scores        {folder}/report.csv, report.json, scores.png
Each round        {folder}/rounds
The log           {folder}/log.txt

Try the model on a task of your own:
  coldfusion evaluate {folder}/model --tasks bbc_news --mode few-shot
Or in Python:
  AutoModel.from_pretrained("{folder}/model")""",
        markup=False,
    )


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help="A model folder, a Hub id, or package:PATH in an installed package.")],
    tasks: Annotated[str, typer.Option("--tasks", help="Names of tasks, with commas between them.")],
    mode: Annotated[str, typer.Option("--mode", help="finetuned, frozen (a linear probe) or few-shot.")] = "frozen",
    catalogue: Catalogues = "packaged",
    data_root: DataRoot = "",
    config: Annotated[
        Path | None, typer.Option("--config", help="Take the tables finetune and evaluate of this run's settings.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Of the drawn rows, heads and training. Default: CONFIG's.", min=0)
    ] = None,
    head: Annotated[
        str | None,
        typer.Option("--head", help="What the head reads: class-token, mean, or auto (as the model says)."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the scores to this file too.")] = None,
) -> None:
    """Score a model on tasks: test scores in points."""
    names, catalogues = split_names(tasks), split_names(catalogue)
    if not names:
        raise SettingsError("--tasks names no task. `coldfusion tasks` lists what there is.")
    known = read_catalogues(catalogues, data_root)
    for name in names:
        known[name]  # a misspelt name is found before the model is loaded
    settings = read_settings(config) if config else None
    seed = seed if seed is not None else settings.seed if settings else 0
    finetuning = settings.finetune if settings else FinetuneSettings()
    if head:
        finetuning = parse_table(FinetuneSettings, to_table(finetuning) | {"head": head}, "--head")
    evaluating = settings.evaluate if settings else EvaluateSettings()
    if json_file and not json_file.resolve().parent.is_dir():
        raise SettingsError(f"--json {json_file}: there is no folder {json_file.resolve().parent}.")
    if mode not in MODES:
        raise SettingsError(f"--mode must be one of {', '.join(MODES)}, but is '{mode}'.")
    with console.status("Loading torch and the model"):
        from coldfusion_fl.data.task import load_task
        from coldfusion_fl.evaluation.scores import score_task
        from coldfusion_fl.model.base import open_base
        from coldfusion_fl.model.encoder import load_encoder

        base = open_base(model)
        encoder = load_encoder(base)
    scores = []
    table = Table(title=f"{mode} test scores of {model}, in points", title_justify="left")
    for column in ("task", "metric", "head", "learnt from", "test rows", "score"):
        table.add_column(column, justify="left" if column in ("task", "metric", "head") else "right")
    with console.status("") as status:
        for number, name in enumerate(names, start=1):
            status.update(f"{mode} score of {name} ({number} of {len(names)})")
            task = load_task(name, catalogues, data_root)
            s = score_task(base, encoder, task, mode, finetuning, evaluating, seed)
            scores.append(s)
            table.add_row(s.task, s.metric, s.head, str(s.train_examples), str(s.test_examples), f"{s.value:.1f}")
    console.print(table)
    if json_file:
        import json

        json_file.write_text(json.dumps([dataclasses.asdict(s) for s in scores], indent=1), encoding="utf-8")
        console.print(f"Written to {json_file}", markup=False)


@app.command()
def tasks(
    names: Annotated[str, typer.Argument(help="Only these tasks, with commas between them.")] = "",
    catalogue: Catalogues = "packaged",
    data_root: DataRoot = "",
) -> None:
    """List tasks: their sizes, classes, and the score of always answering the most frequent class."""
    from coldfusion_fl.data.task import load_task

    if not split_names(catalogue):
        raise SettingsError(f"--catalogue names no catalogue. Shipped are: {', '.join(SHIPPED)}.")
    there = read_catalogues(split_names(catalogue), data_root)
    table = Table(title=f"Tasks of {catalogue}", title_justify="left")
    for column in ("task", "metric", "classes", "train", "validation", "test", "baseline"):
        table.add_column(column, justify="left" if column in ("task", "metric") else "right")
    unreadable = []
    wanted = split_names(names) or tuple(there.specs)
    with console.status("") as status:
        for name in wanted:
            status.update(f"Reading {name}")
            spec = there[name]
            try:
                task = load_task(name, split_names(catalogue), data_root)
            except ColdFusionError as wrong:
                if names:
                    raise
                unreadable.append(str(wrong))
                table.add_row(name, spec.metric, *["-"] * 5)
                continue
            sizes = (str(len(part)) for part in (task.train, task.validation, task.test))
            classes = str(len(task.classes)) if task.classes else "number"
            table.add_row(name, task.metric, classes, *sizes, f"{task.baseline():.1f}")
    console.print(table)
    for reason in unreadable:
        plain_error(reason)
    if len(unreadable) == len(wanted):
        sys.exit(2)


@app.command(name="log")
def show_log(
    folder: Annotated[Path, typer.Argument(help="A run folder.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the records of all rounds as JSON.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Check every file against its hash.")] = False,
) -> None:
    """Show a run's lineage: round by round, who was fused, how large and which way, and who was rejected and why."""
    from coldfusion_fl.run.lineage import lineage, print_lineage

    ledger = Ledger(folder)
    records = lineage(ledger, check=check)
    if as_json:
        import json

        print(json.dumps(records, indent=1))
        return
    print_lineage(ledger, records, console)
    if check:
        console.print(f"\nAll files of the {len(records)} rounds are as they were written.")


app.command(name="settings")(list_settings)

# The core knows nothing of the experiments: what is installed beside it brings its own commands.
for _entry in metadata.entry_points(group="coldfusion_fl.commands"):
    _command = _entry.load()
    if isinstance(_command, typer.Typer):
        app.add_typer(_command, name=_entry.name)
    else:
        app.command(name=_entry.name)(_command)
