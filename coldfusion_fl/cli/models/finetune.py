"""`coldfusion finetune`: a classifier of one task."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coldfusion_fl.api.run_defaults import classifier_defaults, is_run, settings_of_run, tasks_of_run
from coldfusion_fl.cli.app import MODEL_HELP, Catalogues, DataRoot, app, console
from coldfusion_fl.cli.models.classifier_output import NoTraining, Onnx, check_classifier_output, write_classifier
from coldfusion_fl.cli.models.scoring import find_task
from coldfusion_fl.config.parsing import parse_table, read_scoring_settings
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.config.tables import split_names, to_table
from coldfusion_fl.data.catalogue import read_catalogues
from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.training.node_state import HEAD, NodeFiles, simulated_folder

if TYPE_CHECKING:
    from coldfusion_fl.arrays.encoder import EncoderDict

_KEPT = "kept"


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
        str | None,
        typer.Option(
            "--head",
            help="Input of the head: class-token, mean, or auto (the model's own). Or kept: the head that the task's "
            "contributor kept in the run MODEL, which had keep-head.",
        ),
    ] = None,
    no_training: NoTraining = False,
    onnx: Onnx = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the drawn rows, the head and the training.", min=0)] = 0,
) -> None:
    """Finetune a model on a task, and write the classifier in Hugging Face format.

    Use it to take home what a run has made: coldfusion finetune RUN --task MINE --out my-classifier. Of a run folder,
    the catalogue and the table finetune are the defaults. The classifier is scored on all rows of the test split.
    `coldfusion predict` applies it to a table. An interrupted training goes on with the same command.
    """
    of_run = settings_of_run(model)
    catalogues, data_root = tasks_of_run(of_run, split_names(catalogue), data_root)
    spec = find_task(read_catalogues(catalogues, data_root), task, model)
    check_classifier_output(out, onnx)
    is_kept = head == _KEPT
    if no_training and not is_kept:
        raise SettingsError("--no-training needs --head kept: a new head is not trained yet.")
    settings = read_scoring_settings(config).finetune if config else classifier_defaults(of_run)
    given = {"head": None if is_kept else head, "examples": examples}
    changes = {name: value for name, value in given.items() if value is not None}
    settings = parse_table(FinetuneSettings, to_table(settings) | changes, "--head")
    with console.status("Loading torch, the model and the task"):
        from coldfusion_fl.data.task import load_task
        from coldfusion_fl.model.base import open_base
        from coldfusion_fl.model.encoder import load_encoder

        kept_head = _load_kept_head(model, task) if is_kept else None
        base = open_base(model)
        encoder = load_encoder(base)
        loaded = load_task(task, catalogues, data_root)
    write_classifier(
        base, encoder, loaded, spec, settings, seed, out, kept_head=kept_head, trains=not no_training, onnx=onnx
    )


def _load_kept_head(run: str, task: str) -> "EncoderDict":
    """The head that the contributor of a task kept in a simulated run.

    Raises:
        SettingsError: this is no run folder, or there is no such head.
    """
    folder = Path(run).expanduser()
    if not is_run(folder):
        raise SettingsError(f"--head kept needs a run folder, because heads are kept in runs. {run} is none.")
    if kept := NodeFiles(simulated_folder(folder, task)).load(HEAD):
        return kept
    raise SettingsError(
        f"{run}: there is no head of '{task}' in this run. Heads are kept with keep-head = true in the table finetune, "
        "for each seen task, in a simulation. In a federation, the member has its head: coldfusion member export.",
        ErrorCode.SETTINGS_CONFLICT,
    )
