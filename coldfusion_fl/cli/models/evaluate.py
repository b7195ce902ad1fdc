"""`coldfusion evaluate`: the scores of a model."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from coldfusion_fl.cli.app import MODEL_HELP, Catalogues, DataRoot, app, console
from coldfusion_fl.cli.models.output_files import check_output_file, write_output_file
from coldfusion_fl.cli.models.scoring import (
    Config,
    Mode,
    Seed,
    TaskNames,
    check_tasks,
    print_notes,
    read_scoring,
    read_tasks,
)

if TYPE_CHECKING:
    from coldfusion_fl.evaluation.scores import Score

_NUMBERS = ("training rows", "test rows", "score")


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    tasks: TaskNames,
    mode: Mode = "frozen",
    catalogue: Catalogues = "packaged",
    data_root: DataRoot = "",
    config: Config = None,
    seed: Seed = None,
    head: Annotated[
        str | None,
        typer.Option("--head", help="Input of the head: class-token, mean, or auto (the model's own)."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the scores to this file.")] = None,
) -> None:
    """Score a model on tasks. Scores are points on the test split."""
    scoring = read_scoring(model, tasks, mode, catalogue, data_root, config, seed, head)
    check_output_file("--json", json_file)
    with console.status("Loading torch and the model"):
        from coldfusion_fl.evaluation.scores import score_task
        from coldfusion_fl.model.base import open_base
        from coldfusion_fl.model.encoder import load_encoder

        base = open_base(model)
        encoder = load_encoder(base)
    print_notes("base", base.notes)
    read = read_tasks(scoring)
    check_tasks(base, encoder, scoring, read)
    scores = []
    with console.status("") as status:
        for number, task in enumerate(read, start=1):
            status.update(Text(f"{mode} score of {task.name} ({number} of {len(read)})"))
            scores.append(score_task(base, encoder, task, mode, scoring.finetuning, scoring.evaluating, scoring.seed))
    console.print(_table(scores, f"{mode} test scores of {model}, in points"))
    if json_file:
        write_output_file(json_file, json.dumps([dataclasses.asdict(score) for score in scores], indent=1))


def _table(scores: "list[Score]", title: str) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for column in ("task", "metric", "head", "training rows", "test rows", "test rows hash", "score"):
        table.add_column(column, justify="right" if column in _NUMBERS else "left")
    for score in scores:
        rows = (str(score.train_examples), str(score.test_examples), score.test_rows_hash)
        table.add_row(escape(score.task), score.metric, score.head, *rows, f"{score.value:.1f}")
    return table
