"""How a classifier is trained and written, with its progress in the terminal: for `finetune` and `member export`."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from coldfusion_fl.cli.app import console, print_line
from coldfusion_fl.cli.models.output_files import check_new_output
from coldfusion_fl.cli.models.scoring import print_notes
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.catalogue import TaskSpec
from coldfusion_fl.extras import EXTRAS, require

if TYPE_CHECKING:
    from coldfusion_fl.arrays.encoder import Encoder
    from coldfusion_fl.classifier import FinetunedClassifier
    from coldfusion_fl.data.task import Task
    from coldfusion_fl.model.base import Base
    from coldfusion_fl.training.checkpoint import TrainingCheckpoint

NoTraining = Annotated[
    bool, typer.Option("--no-training", help="With a kept head: write encoder and head as they are, and score them.")
]
Onnx = Annotated[
    bool,
    typer.Option("--onnx", help="Also write onnx/model.onnx, for programs without PyTorch; needs the extra onnx."),
]
# Seconds between two lines about the progress where the output is no terminal.
_LINE_INTERVAL = 30.0


def check_classifier_output(out: Path, onnx: bool) -> None:
    """Check what can be checked without torch, which takes seconds to load.

    Raises:
        SettingsError: `out` exists, its parent does not, or a package that ONNX needs is not installed.
    """
    check_new_output(out, "folder")
    if onnx:
        require("--onnx", *EXTRAS["onnx"])


def write_classifier(
    base: "Base",
    encoder: "Encoder",
    task: "Task",
    spec: TaskSpec,
    settings: FinetuneSettings,
    seed: int,
    out: Path,
    *,
    kept_head: "Encoder | None" = None,
    trains: bool = True,
    onnx: bool = False,
    is_fused: bool = False,
) -> None:
    """Train a classifier and write its folder; an interrupted training goes on when this is called again.

    Args:
        base: the base.
        encoder: its arrays by name.
        task: the task.
        spec: the task in its catalogue.
        settings: the schedule and the head.
        seed: of the drawn rows, the head and the training.
        out: the folder to create.
        kept_head: the head to start with; None: a new one.
        trains: whether encoder and head are trained; if not, they are scored and written as they are.
        onnx: whether to write the classifier as ONNX too.
        is_fused: whether the arrays are those of a run that began with the base, for the card.

    Raises:
        ColdFusionError: the task does not fit the model, the training diverged, or the folder cannot be written.
    """
    from coldfusion_fl.classifier.onnx_export import ONNX_FILE
    from coldfusion_fl.classifier.training import find_head, training_checkpoint
    from coldfusion_fl.preflight.task_check import TaskChecker

    print_notes("base", base.notes)
    print_notes(task.name, task.describe())
    if kept_head is not None:
        settings = settings.model_copy(update={"head": find_head(base, encoder, task, kept_head)})
    print_notes(task.name, TaskChecker(base, encoder, settings).check(task).notes)
    file = out.resolve().with_name(f".{out.resolve().name}.training")
    checkpoint = training_checkpoint(file, base, encoder, task, settings, seed, kept_head) if trains else None
    if checkpoint and checkpoint.file.exists():
        step = checkpoint.saved_step()
        print_line(
            f"The training goes on after step {step}, where it was interrupted."
            if step
            else f"{file} is of a training with another model, other rows, settings or software. It starts anew."
        )
    try:
        trained = _train(base, encoder, task, spec, settings, seed, kept_head, trains, checkpoint, is_fused)
    except KeyboardInterrupt:
        step = checkpoint.saved_step() if checkpoint else None
        print_line(
            f"Interrupted. The same command goes on after step {step}."
            if step
            else "Interrupted. Nothing was saved yet, so the same command starts anew."
        )
        raise
    trained.save(out, onnx=onnx)
    if checkpoint:
        checkpoint.remove()
    print_line(_describe_score(task, trained.score, trained.baseline))
    if warning := warn_of_baseline(task, trained.score, trained.baseline, trains=trains):
        print_line(warning)
    if onnx:
        print_line(f"{out / ONNX_FILE} was checked: ONNX Runtime gives the outputs of PyTorch.")
    print_line(f"The classifier is in {out}. Apply it: coldfusion predict {out} FILE --out FILE")


def _describe_score(task: "Task", score: float, baseline: float) -> str:
    """The score beside the baseline; for an accuracy, with its 95 % interval, and whether it may be noise."""
    from coldfusion_fl.evaluation.intervals import proportion_interval

    name = "always the most frequent class" if task.classes else "always the mean"
    ends, noise = "", ""
    if task.metric == "accuracy":
        low, high = proportion_interval(score, len(task.test))
        ends = f" [{low:.1f}, {high:.1f}]"
        noise = (
            ". The score may be noise: the interval holds the baseline"
            if low is not None and high is not None and low <= baseline <= high
            else ""
        )
    return f"{task.metric} on {len(task.test)} test rows: {score:.1f}{ends} points ({name}: {baseline:.1f}){noise}"


def warn_of_baseline(task: "Task", score: float, baseline: float, *, trains: bool) -> str:
    """A warning with both figures, where a classifier is no better than an answer that reads no text; else empty.

    Args:
        task: its task.
        score: on the test split, in points.
        baseline: the score of always the same answer, likewise.
        trains: whether the classifier was trained further by this command.
    """
    if score > baseline:
        return ""
    same = "the most frequent class" if task.classes else "the mean"
    remedy = "More training rows, more epochs or another base may help."
    if not trains:
        remedy = "Leave out --no-training, so that it is trained on the task's rows."
    return (
        f"Warning: the classifier is {'below' if score < baseline else 'no better than'} always answering {same}: "
        f"{score:.1f} against {baseline:.1f} points. Do not use it as it is. {remedy}"
    )


def _train(
    base: "Base",
    encoder: "Encoder",
    task: "Task",
    spec: TaskSpec,
    settings: FinetuneSettings,
    seed: int,
    kept_head: "Encoder | None",
    trains: bool,
    checkpoint: "TrainingCheckpoint | None",
    is_fused: bool,
) -> "FinetunedClassifier":
    """Train with a progress bar; where the output is no terminal, with a line now and then."""
    from coldfusion_fl.classifier.finetuned import finetune_classifier

    columns = (TextColumn("training"), BarColumn(), TextColumn("loss {task.fields[loss]:.3f}"), TimeRemainingColumn())
    last_line = time.monotonic()
    with Progress(*columns, console=console, transient=True) as bar:
        shown = bar.add_task("training", total=None, loss=float("nan"))

        def progress(step: int, planned: int, loss: float) -> None:
            nonlocal last_line
            bar.update(shown, completed=step, total=planned, loss=loss)
            if not console.is_terminal and time.monotonic() - last_line > _LINE_INTERVAL:
                last_line = time.monotonic()
                print_line(f"step {step:,} of at most {planned:,}, loss {loss:.3f}")

        return finetune_classifier(
            base, encoder, task, settings, seed, progress, spec,
            kept_head=kept_head, trains=trains, checkpoint=checkpoint, is_fused=is_fused,
        )  # fmt: skip
