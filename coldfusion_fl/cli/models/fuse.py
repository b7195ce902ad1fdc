"""`coldfusion fuse`: finetuned checkpoints of one base, fused into a better base."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from coldfusion_fl.aggregation.pipeline import Pipeline
from coldfusion_fl.aggregation.screening import ScoreFunction
from coldfusion_fl.cli.app import MODEL_HELP, Catalogues, DataRoot, app, console
from coldfusion_fl.cli.models.fuse_run import (
    comparison_advice,
    fuse_in_run,
    print_text,
    show_progress,
    undo_in_run,
)
from coldfusion_fl.config.settings import TaskSettings
from coldfusion_fl.config.tables import join_names, split_names
from coldfusion_fl.data.catalogue import read_catalogues
from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.formatting import number
from coldfusion_fl.repository.round_options import RoundOptions, settings_of_new_run, settings_of_round
from coldfusion_fl.sanitize import sanitize

if TYPE_CHECKING:
    from coldfusion_fl.checkpoints.checkpoint import LoadedBase
    from coldfusion_fl.checkpoints.fusing import CheckpointFusion


@app.command()
def fuse(
    checkpoints: Annotated[
        list[str] | None, typer.Argument(help="The finetuned checkpoints, with any heads. Each is: " + MODEL_HELP)
    ] = None,
    base: Annotated[
        str,
        typer.Option(
            "--base", help="The base that they were finetuned from; with --run, the base of a new run. " + MODEL_HELP
        ),
    ] = "",
    out: Annotated[Path | None, typer.Option("--out", help="The model folder to create.")] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            help="The run folder that gets the checkpoints as its next round; with --base, a folder to create. Its "
            "settings are the defaults of the options below.",
        ),
    ] = None,
    fusion: Annotated[
        str | None, typer.Option("--fusion", help='An operator, such as "ties(density=0.2)". Default: mean.')
    ] = None,
    server_optimizer: Annotated[
        str | None,
        typer.Option(
            "--server-optimizer",
            help='The step from the base to the fused encoder, such as "learning-rate(learning-rate=0.3)". Default: '
            "plain.",
        ),
    ] = None,
    screening: Annotated[
        str | None,
        typer.Option("--screening", help='Rules that reject checkpoints, such as "size, direction". Default: none.'),
    ] = None,
    weights: Annotated[
        str, typer.Option("--weights", help="A number for each checkpoint, separated by commas. Default: all equal.")
    ] = "",
    server_validation: Annotated[
        str | None,
        typer.Option(
            "--server-validation",
            help="A task. Its validation split gives the score that the rule greedy-soup and --rollback need.",
        ),
    ] = None,
    rollback: Annotated[
        float | None,
        typer.Option(
            "--rollback",
            min=0,
            help="With --run: keep the old base if the score falls by more than this number of points; 0: never.",
        ),
    ] = None,
    min_contributions: Annotated[
        int | None,
        typer.Option(
            "--min-contributions",
            min=1,
            help="With --run: keep the old base if fewer checkpoints pass the screening. Default: 1 in a new run.",
        ),
    ] = None,
    undo: Annotated[
        int | None,
        typer.Option(
            "--undo", metavar="ROUND", help="With --run: take back this round of checkpoints, the last of the run."
        ),
    ] = None,
    catalogue: Catalogues = "packaged",
    data_root: DataRoot = "",
) -> None:
    """Fuse finetuned checkpoints of one base into a better base: a model folder, or the next round of a run."""
    options = RoundOptions(
        fusion=fusion,
        server_optimizer=server_optimizer,
        screening=screening,
        server_validation=server_validation,
        rollback=rollback,
        min_contributions=min_contributions,
        catalogue=None if catalogue == join_names(TaskSettings().catalogue) else split_names(catalogue),
        data_root=data_root or None,
        weights=_parse_weights(weights),
    )
    _check_options(checkpoints or [], base, out, run, undo, options)
    if run and undo is not None:
        undo_in_run(run, undo, base)
    elif run:
        fuse_in_run(run, checkpoints or [], base, options)
    elif out:
        _fuse_to_folder(checkpoints or [], base, out, options)


def _check_options(
    checkpoints: Sequence[str],
    base: str,
    out: Path | None,
    run: Path | None,
    undo: int | None,
    options: RoundOptions,
) -> None:
    """Check which options are given together, before anything is loaded."""
    if run and out:
        raise SettingsError(
            "--run and --out cannot be combined: the model of a run is in its folder.", ErrorCode.SETTINGS_CONFLICT
        )
    if not run and not out:
        raise SettingsError(
            "--out is missing: name the model folder to create, or a run folder with --run.", ErrorCode.SETTING_MISSING
        )
    if undo is not None and (checkpoints or options != RoundOptions()):
        raise SettingsError(
            "--undo takes back a round. Leave the checkpoints and the other options out.", ErrorCode.SETTINGS_CONFLICT
        )
    if undo is None and not checkpoints:
        raise SettingsError("there is no checkpoint to fuse: name at least one.", ErrorCode.SETTING_MISSING)
    if run:
        return
    only_run = {"--rollback": options.rollback, "--min-contributions": options.min_contributions, "--undo": undo}
    if given := [name for name, value in only_run.items() if value is not None]:
        raise SettingsError(f"{' and '.join(given)} needs --run.", ErrorCode.SETTINGS_CONFLICT)
    if not base:
        raise SettingsError(
            "--base is missing: name the base that the checkpoints were finetuned from.", ErrorCode.SETTING_MISSING
        )


def _fuse_to_folder(checkpoints: Sequence[str], base: str, out: Path, options: RoundOptions) -> None:
    # All options are checked before torch is loaded, which takes seconds.
    settings = settings_of_round(settings_of_new_run(base, options), options, out)
    server = settings.server
    pipeline = Pipeline.parse(server.screening, server.fusion, server.server_optimizer)
    if server.server_validation:
        _check_use(server.server_validation, pipeline)
        read_catalogues(settings.tasks.catalogue, settings.tasks.data_root)[server.server_validation]
    with console.status("Loading torch"):
        from coldfusion_fl.checkpoints.fusing import check_pipeline, fuse_checkpoints
        from coldfusion_fl.checkpoints.saving import check_target, save_fusion
        from coldfusion_fl.repository.server_validation import checked_score

    def make_score_fn(loaded: "LoadedBase") -> ScoreFunction:
        return checked_score(settings, loaded, print_text)

    check_target(out)
    check_pipeline(pipeline, checkpoints, options.weights, has_score_function=bool(server.server_validation))
    with console.status("") as status:
        found = fuse_checkpoints(
            checkpoints,
            base,
            fusion=server.fusion,
            server_optimizer=server.server_optimizer,
            screening=server.screening,
            weights=options.weights,
            make_score_fn=make_score_fn if server.server_validation else None,
            folder=out.absolute().parent,
            progress=show_progress(status, len(checkpoints)),
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


def _show_result(found: "CheckpointFusion", out: Path) -> None:
    from coldfusion_fl.checkpoints.card import FUSION_FILE, other_licences

    for fused in found.checkpoints:
        for warning in fused.warnings:
            print_text(f"warning: {fused.checkpoint.reference}: {warning}")
    if others := other_licences(found):
        print_text(f"warning: not the licence of the base, check before you share the result: {'; '.join(others)}")
    console.print(_outcome_table(found))
    print_text(
        "Norm: the length of the update from the base. Cosine: between the update and the mean direction of the "
        f"others. The result is {number(found.update_norm, 3)} away from the base."
    )
    print_text(f"\nThe fused model   {out}\nHow it was made   {out / FUSION_FILE}")
    print_text(comparison_advice(str(out), found.base.reference))


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
