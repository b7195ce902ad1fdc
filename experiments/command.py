"""The command `coldfusion experiment`."""

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from coldfusion_fl.atomic_files import disk_errors, exclusive_lock
from coldfusion_fl.config.tables import split_names
from coldfusion_fl.data.paths import expand_user
from coldfusion_fl.errors import SettingsError
from coldfusion_fl.execution.display import plain_console

console = plain_console()


def experiment(
    config: Annotated[Path, typer.Argument(help="The experiment, a TOML file, such as experiments/main.toml.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The folder of scores and report. Default: results/NAME beside CONFIG."),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work", help="The folder for runs and bases; it needs gigabytes. Default: runs/experiments/NAME."
        ),
    ] = None,
    data_root: Annotated[
        str, typer.Option("--data-root", help="The folder that relative paths in the catalogue start from.")
    ] = "",
    base: Annotated[str, typer.Option("--base", help="Use this base instead of CONFIG's.")] = "",
    seeds: Annotated[str, typer.Option("--seeds", help="Only these of CONFIG's seeds, separated by commas.")] = "",
    only: Annotated[str, typer.Option("--only", help="Only these of CONFIG's recipes, separated by commas.")] = "",
    gpus: Annotated[
        float, typer.Option("--gpus", help="The share of a GPU for each process; 0.25: four processes at once.")
    ] = 0.0,
    plan: Annotated[bool, typer.Option("--plan", help="Print the remaining work, and exit.")] = False,
    report: Annotated[
        bool, typer.Option("--report", help="Write the report from the scores so far, and exit.")
    ] = False,
) -> None:
    """Run an experiment: make each recipe's bases, score them, and write a report.

    Each score is saved at once. After an interruption, the same command continues, and repeats nothing.
    """
    with console.status("Reading the experiment"):
        from .reading import read_experiment

        changes: dict[str, Any] = {"run": {}}
        if data_root:
            changes["run"]["tasks"] = {"data-root": str(expand_user(data_root).resolve())}
        if gpus:
            changes["run"]["simulation"] = {"gpus": gpus}
        if base:
            changes["run"]["base"] = str(Path(base).resolve()) if Path(base).is_dir() else base
        made = read_experiment(config, changes)
        made = made.only(_numbers(seeds), split_names(only))
    _execute(
        made,
        out or config.parent / "results" / made.name,
        work or Path("runs") / "experiments" / made.name,
        plan,
        report,
    )


def _execute(made: Any, out: Path, work: Path, plan: bool, report: bool) -> None:
    from .outcome import write_outcome
    from .reading import check
    from .runner import Runner
    from .scores import ScoreFile

    if report:
        scores = ScoreFile(out / "scores.json")
        if not scores.facts:
            raise SettingsError(f"{scores.path}: there are no scores to report yet.")
        write_outcome(scores)
        console.print(f"Written to {out}", markup=False)
        return
    if out.exists() and not out.is_dir():
        raise SettingsError(f"--out {out}: this is a file; a folder is needed.")
    if plan:
        _show(Runner(made, ScoreFile(out / "scores.json"), work, _log), whole=True)
        return
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(out, "another process runs this experiment. Wait for it, or end it."):
        scores = ScoreFile(out / "scores.json")
        runner = Runner(made, scores, work, _log)
        if _show(runner):
            with console.status("Checking the tasks and the base"):
                check(made)
            _run(runner)
        scores.write()  # comparisons and groups of tasks may be new, even if there is no new score
        write_outcome(scores)
    console.print(f"The report is {out / 'report.md'}", markup=False)


def _log(line: str) -> None:
    console.print(line, markup=False)


def _show(runner: Any, whole: bool = False) -> int:
    """Print how many scores are left, and if `whole` also of which recipes; returns the number."""
    left, size = len(runner.left()), runner.size()
    _log(f"{runner.title}\n{size - left} of {size} scores are done; {left} remaining.")
    for line in runner.plan() if whole else ():
        _log(line)
    return left


def _run(runner: Any) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # SIGTERM stops an experiment like Ctrl-C
    try:
        runner.run()
    except KeyboardInterrupt:
        console.print("Stopped. All scores so far are saved. To continue, use the same command.")
        raise typer.Exit(130) from None


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in split_names(text))
    except ValueError:
        raise SettingsError(f"--seeds must be whole numbers separated by commas, but is '{text}'.") from None
