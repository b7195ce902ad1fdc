"""`coldfusion evaluate`: the scores of a model."""

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from coldfusion_fl.cli.app import MODEL_HELP, Catalogues, DataRoot, app, console, print_line
from coldfusion_fl.config.parsing import parse_table, read_settings
from coldfusion_fl.config.settings import MODES, EvaluateSettings, FinetuneSettings
from coldfusion_fl.config.tables import split_names, to_table
from coldfusion_fl.data.catalogue import read_catalogues
from coldfusion_fl.errors import ErrorCode, SettingsError


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    tasks: Annotated[str, typer.Option("--tasks", help="Names of tasks, separated by commas.")],
    mode: Annotated[str, typer.Option("--mode", help="finetuned, frozen (a linear probe) or few-shot.")] = "frozen",
    catalogue: Catalogues = "packaged",
    data_root: DataRoot = "",
    config: Annotated[
        Path | None,
        typer.Option("--config", help="Use the tables finetune and evaluate of this settings file (TOML)."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            help="Random seed of the sampled rows, the heads and the training. Default: that of --config, or 0.",
            min=0,
        ),
    ] = None,
    head: Annotated[
        str | None,
        typer.Option("--head", help="Input of the head: class-token, mean, or auto (the model's own)."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the scores to this file.")] = None,
) -> None:
    """Score a model on tasks. Scores are points on the test split."""
    # All options are checked before torch is loaded, which takes seconds.
    names, catalogues = split_names(tasks), split_names(catalogue)
    if not names:
        raise SettingsError(
            "--tasks is empty. List the available tasks with `coldfusion tasks`.", code=ErrorCode.SETTING_MISSING
        )
    known = read_catalogues(catalogues, data_root)
    for name in names:
        known[name]
    settings = read_settings(config) if config else None
    seed = seed if seed is not None else settings.seed if settings else 0
    finetuning = settings.finetune if settings else FinetuneSettings()
    if head:
        finetuning = parse_table(FinetuneSettings, to_table(finetuning) | {"head": head}, "--head")
    evaluating = settings.evaluate if settings else EvaluateSettings()
    if json_file and not json_file.resolve().parent.is_dir():
        raise SettingsError(f"--json {json_file}: the folder {json_file.resolve().parent} does not exist.")
    if mode not in MODES:
        raise SettingsError(f"--mode must be one of {', '.join(MODES)}, but is '{mode}'.")
    with console.status("Loading torch and the model"):
        from coldfusion_fl.data.task import load_task
        from coldfusion_fl.evaluation.scores import score_task
        from coldfusion_fl.model.base import open_base
        from coldfusion_fl.model.encoder import load_encoder
        from coldfusion_fl.preflight.task_check import TaskChecker

        base = open_base(model)
        encoder = load_encoder(base)
    for note in base.notes:
        print_line(f"base: {note}")
    with console.status("") as status:
        # All tasks are checked before the first score, which may take long.
        checker = TaskChecker(base, encoder, finetuning, trains=mode != "frozen")
        for name in names:
            status.update(Text(f"Checking {name}"))
            task = load_task(name, catalogues, data_root)
            for note in [*task.report.lines(brief=True), *checker.check(task).notes]:
                print_line(f"{name}: {note}")
    scores = []
    table = Table(title=escape(f"{mode} test scores of {model}, in points"), title_justify="left")
    for column in ("task", "metric", "head", "training rows", "test rows", "test rows hash", "score"):
        table.add_column(column, justify="right" if column in ("training rows", "test rows", "score") else "left")
    with console.status("") as status:
        for number, name in enumerate(names, start=1):
            status.update(Text(f"{mode} score of {name} ({number} of {len(names)})"))
            task = load_task(name, catalogues, data_root)
            s = score_task(base, encoder, task, mode, finetuning, evaluating, seed)
            scores.append(s)
            rows = (str(s.train_examples), str(s.test_examples), s.test_rows_hash)
            table.add_row(escape(s.task), s.metric, s.head, *rows, f"{s.value:.1f}")
    console.print(table)
    if json_file:
        json_file.write_text(json.dumps([dataclasses.asdict(s) for s in scores], indent=1), encoding="utf-8")
        console.print(f"Scores written to {json_file}", markup=False)
