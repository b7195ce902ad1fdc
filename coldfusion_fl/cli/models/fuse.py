"""`coldfusion fuse`: finetuned checkpoints of one base, fused into a better base."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from coldfusion_fl.aggregation.pipeline import Pipeline
from coldfusion_fl.aggregation.screening import ScoreFunction
from coldfusion_fl.cli.app import MODEL_HELP, Catalogues, DataRoot, app, console
from coldfusion_fl.config.settings import EvaluateSettings, FinetuneSettings
from coldfusion_fl.config.tables import split_names
from coldfusion_fl.data.catalogue import read_catalogues
from coldfusion_fl.errors import SettingsError, count
from coldfusion_fl.formatting import number
from coldfusion_fl.sanitize import sanitize

if TYPE_CHECKING:
    from coldfusion_fl.checkpoints.checkpoint import LoadedBase
    from coldfusion_fl.checkpoints.fusing import CheckpointFusion


@app.command()
def fuse(
    checkpoints: Annotated[
        list[str], typer.Argument(help="The finetuned checkpoints, with any heads. Each is: " + MODEL_HELP)
    ],
    base: Annotated[str, typer.Option("--base", help="The base that they were finetuned from. " + MODEL_HELP)],
    out: Annotated[Path, typer.Option("--out", help="The model folder to create.")],
    fusion: Annotated[str, typer.Option("--fusion", help='An operator, such as "ties(density=0.2)".')] = "mean",
    server_optimizer: Annotated[
        str,
        typer.Option(
            "--server-optimizer",
            help='The step from the base to the fused encoder, such as "learning-rate(learning-rate=0.3)".',
        ),
    ] = "plain",
    screening: Annotated[
        str, typer.Option("--screening", help='Rules that reject checkpoints, such as "size, direction".')
    ] = "",
    weights: Annotated[
        str, typer.Option("--weights", help="A number for each checkpoint, separated by commas. Default: all equal.")
    ] = "",
    server_validation: Annotated[
        str,
        typer.Option(
            "--server-validation",
            help="A task. Its validation split gives the score that the rule greedy-soup needs.",
        ),
    ] = "",
    catalogue: Catalogues = "packaged",
    data_root: DataRoot = "",
) -> None:
    """Fuse finetuned checkpoints of one base into a better base: a model folder without a head."""
    # All options are checked before torch is loaded, which takes seconds.
    pipeline = Pipeline.parse(screening, fusion, server_optimizer)
    numbers = _parse_weights(weights)
    catalogues = split_names(catalogue)
    if server_validation:
        _check_use(server_validation, pipeline)
        read_catalogues(catalogues, data_root)[server_validation]
    with console.status("Loading torch"):
        from coldfusion_fl.checkpoints.fusing import check_pipeline, fuse_checkpoints
        from coldfusion_fl.checkpoints.saving import check_target, save_fusion

    check_target(out)
    check_pipeline(pipeline, checkpoints, numbers, has_score_function=bool(server_validation))
    with console.status("") as status:

        def show(step: str, place: int, reference: str) -> None:
            which = f" ({place} of {len(checkpoints)})" if place and reference else ""
            line = f"{step} {reference or count(place, 'checkpoint')}{which}"
            status.update(Text(sanitize(line)))
            if not console.is_terminal and step == "Reading":
                console.print(sanitize(line), markup=False, soft_wrap=True)

        found = fuse_checkpoints(
            checkpoints,
            base,
            fusion=fusion,
            server_optimizer=server_optimizer,
            screening=screening,
            weights=numbers,
            make_score_fn=_score_maker(server_validation, catalogues, data_root) if server_validation else None,
            folder=out.absolute().parent,
            progress=show,
        )
        status.update(Text(f"Writing {out}"))
        save_fusion(found, out)
    _show_result(found, out)


def _parse_weights(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise SettingsError(f"--weights must be numbers separated by commas, but is '{text}'.") from None


def _check_use(task: str, pipeline: Pipeline) -> None:
    if not any(rule.needs_score_function for rule in pipeline.screening):
        raise SettingsError(
            f'--server-validation {task} has no use without a rule that needs a score: add --screening "greedy-soup".'
        )


def _score_maker(name: str, catalogues: Sequence[str], data_root: str) -> Callable[["LoadedBase"], ScoreFunction]:
    """Makes the score on a task's validation split, with the default settings of a run."""

    def make(loaded: "LoadedBase") -> ScoreFunction:
        from coldfusion_fl.data.task import load_task
        from coldfusion_fl.evaluation.validation import validation_score_fn
        from coldfusion_fl.preflight.task_check import TaskChecker

        task, finetuning, evaluating = load_task(name, catalogues, data_root), FinetuneSettings(), EvaluateSettings()
        TaskChecker(loaded.base, loaded.encoder, finetuning, trains=False).check(task)
        return validation_score_fn(
            loaded.base, task, finetuning, evaluating, seed=0, warn=lambda line: console.print(line, markup=False)
        )

    return make


def _show_result(found: "CheckpointFusion", out: Path) -> None:
    from coldfusion_fl.checkpoints.card import FUSION_FILE, other_licences

    for fused in found.checkpoints:
        for warning in fused.warnings:
            _print_line(f"warning: {fused.checkpoint.reference}: {warning}")
    if others := other_licences(found):
        _print_line(f"warning: not the licence of the base, check before you share the result: {'; '.join(others)}")
    console.print(_outcome_table(found))
    _print_line(
        "Norm: the length of the update from the base. Cosine: between the update and the mean direction of the "
        f"others. The result is {number(found.update_norm, 3)} away from the base."
    )
    folder = shlex.quote(str(out))
    _print_line(f"\nThe fused model   {out}\nHow it was made   {out / FUSION_FILE}")
    _print_line(
        "\nCompare it with the base on a task (`coldfusion tasks` lists them):\n"
        f"  coldfusion evaluate {folder} --tasks TASK\n"
        f"  coldfusion evaluate {shlex.quote(found.base.reference)} --tasks TASK"
    )


def _outcome_table(found: "CheckpointFusion") -> Table:
    """A row for each checkpoint; with reasons, where one was rejected."""
    table = Table(title=escape(f"Fused by {found.pipeline.fusion}"), title_justify="left")
    has_rejections = any(fused.rejected_by for fused in found.checkpoints)
    for column in ("checkpoint", "norm", "cosine", "share", *(("rejected by", "reason") if has_rejections else ())):
        table.add_column(column, justify="right" if column in ("norm", "cosine", "share") else "left")
    for fused in found.checkpoints:
        reasons = (fused.rejected_by, escape(fused.reason)) if has_rejections else ()
        table.add_row(
            escape(sanitize(fused.checkpoint.reference)),
            number(fused.norm, 3),
            number(fused.cosine, 3, signed=True),
            number(fused.share, 3),
            *reasons,
        )
    return table


def _print_line(text: str) -> None:
    console.print("\n".join(map(sanitize, text.split("\n"))), markup=False, soft_wrap=True)
