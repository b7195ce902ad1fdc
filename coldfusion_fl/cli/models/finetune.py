"""`coldfusion finetune`: a classifier of one task."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from coldfusion_fl.api.run_defaults import classifier_defaults, settings_of_run, tasks_of_run
from coldfusion_fl.cli.app import MODEL_HELP, Catalogues, DataRoot, app, console
from coldfusion_fl.cli.models.output_files import check_new_output
from coldfusion_fl.cli.models.scoring import print_notes
from coldfusion_fl.config.parsing import parse_table, read_scoring_settings
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.config.tables import split_names, to_table
from coldfusion_fl.data.catalogue import TaskSpec, read_catalogues

if TYPE_CHECKING:
    from coldfusion_fl.arrays.encoder import Encoder
    from coldfusion_fl.classifier import FinetunedClassifier
    from coldfusion_fl.data.task import Task
    from coldfusion_fl.model.base import Base


@app.command()
def finetune(
    model: Annotated[str, typer.Argument(help=MODEL_HELP)],
    task: Annotated[str, typer.Option("--task", help="The name of the task.")],
    out: Annotated[Path, typer.Option("--out", help="The folder of the classifier; it must not exist.")],
    catalogue: Catalogues = "packaged",
    data_root: DataRoot = "",
    config: Annotated[
        Path | None, typer.Option("--config", help="Use the table finetune of this settings file (TOML).")
    ] = None,
    examples: Annotated[
        int | None,
        typer.Option("--examples", help="Rows of train to finetune on. Default: that of --config, or all.", min=0),
    ] = None,
    head: Annotated[
        str | None, typer.Option("--head", help="Input of the head: class-token, mean, or auto (the model's own).")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the drawn rows, the head and the training.", min=0)] = 0,
) -> None:
    """Finetune a model on a task, and write the classifier in Hugging Face format.

    Use it to take home what a run has made: coldfusion finetune RUN --task MINE --out my-classifier. Of a run folder,
    the catalogue and the table finetune are the defaults. The classifier is scored on all rows of the test split.
    `coldfusion predict` applies it to a table.
    """
    of_run = settings_of_run(model)
    catalogues, data_root = tasks_of_run(of_run, split_names(catalogue), data_root)
    spec = read_catalogues(catalogues, data_root)[task]
    check_new_output(out, "folder")
    settings = read_scoring_settings(config).finetune if config else classifier_defaults(of_run)
    given = {"head": head, "examples": examples}
    changes = {name: value for name, value in given.items() if value is not None}
    settings = parse_table(FinetuneSettings, to_table(settings) | changes, "--head")
    with console.status("Loading torch, the model and the task"):
        from coldfusion_fl.data.task import load_task
        from coldfusion_fl.model.base import open_base
        from coldfusion_fl.model.encoder import load_encoder

        base = open_base(model)
        encoder = load_encoder(base)
        loaded = load_task(task, catalogues, data_root)
        _check(base, encoder, loaded, settings)
    trained = _train(base, encoder, loaded, settings, seed, spec)
    trained.save(out)
    baseline = "always the most frequent class" if loaded.classes else "always the mean"
    console.print(
        f"{loaded.metric} on {len(loaded.test)} test rows: {trained.score:.1f} points ({baseline}: "
        f"{trained.baseline:.1f})",
        markup=False,
    )
    console.print(f"The classifier is in {out}. Apply it: coldfusion predict {out} FILE --out FILE", markup=False)


def _check(base: "Base", encoder: "Encoder", task: "Task", settings: FinetuneSettings) -> None:
    """Check the task with the model, and print what was guessed or left out."""
    from coldfusion_fl.preflight.task_check import TaskChecker

    print_notes("base", base.notes)
    print_notes(task.name, task.describe())
    print_notes(task.name, TaskChecker(base, encoder, settings).check(task).notes)


def _train(
    base: "Base", encoder: "Encoder", task: "Task", settings: FinetuneSettings, seed: int, spec: TaskSpec
) -> "FinetunedClassifier":
    """Train with a progress bar; where the output is no terminal, nothing is drawn."""
    from coldfusion_fl.classifier.finetuned import finetune_classifier

    columns = (TextColumn("training"), BarColumn(), TextColumn("loss {task.fields[loss]:.3f}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        shown = bar.add_task("training", total=None, loss=float("nan"))

        def progress(step: int, planned: int, loss: float) -> None:
            bar.update(shown, completed=step, total=planned, loss=loss)

        return finetune_classifier(base, encoder, task, settings, seed, progress, spec)
