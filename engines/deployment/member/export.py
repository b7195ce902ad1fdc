"""A member's own classifier: of the newest base of a run and of its head, which it has kept on its disk."""

import json
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from safetensors import SafetensorError

from coldfusion_fl.arrays.encoder import EncoderDict
from coldfusion_fl.cli.app import print_line
from coldfusion_fl.cli.models.classifier_output import write_classifier
from coldfusion_fl.config.parsing import parse_table
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.catalogue import read_catalogues
from coldfusion_fl.engines.deployment.member.join import flower_home
from coldfusion_fl.engines.deployment.member.settings import Member
from coldfusion_fl.errors import DeploymentError, ErrorCode, first_line
from coldfusion_fl.sanitize import MAX_NAME, bounded
from coldfusion_fl.training.node_state import BASE, FINETUNING, HEAD, NodeFiles

_SHOWN_RUNS = 10


@dataclass(frozen=True)
class KeptModel:
    """What a member has kept of one run.

    Attributes:
        run: the identifier of the run.
        when: when its base was kept, in local time.
        server_round: the round whose base it is.
        head_round: the last round in which the member trained its head; None: it kept none.
        others: the newest other runs of which this member has kept a base, described; empty: there are none.
        encoder: the arrays of the base by name.
        head: the arrays of the member's head by name; empty if the run did not keep heads.
        settings: the training of the run's contributors.
    """

    run: str
    when: str
    server_round: int
    head_round: int | None
    encoder: EncoderDict
    head: EncoderDict
    settings: FinetuneSettings
    others: str = ""


def read_kept_model(folder: Path, run: str = "") -> KeptModel:
    """Read what a member has kept.

    Args:
        folder: the member's folder.
        run: the identifier of a run, or its beginning; empty: the run with the newest base.

    Raises:
        DeploymentError: there is no such run, or it has sent no base to evaluate.
    """
    state = flower_home(folder) / "state"
    # A run's folder appears with its first base.
    runs = [path for path in state.glob("*") if (path / FINETUNING).is_file()]
    named = [path for path in runs if unquote(path.name).startswith(run)]
    if not named:
        known = _describe_runs(runs)
        which = f" of a run '{run}', but of {known}" if run and known else ""
        raise DeploymentError(
            f"{folder}: this member has kept no base{which}. A member keeps the newest base that it has evaluated. Of "
            "a run without evaluation, finetune the model that the server has: coldfusion finetune MODEL --task TASK",
            code=ErrorCode.MODEL_MISSING,
        )
    newest = max(named, key=_time_of)
    files, settings = NodeFiles(newest), json.loads((newest / FINETUNING).read_text(encoding="utf-8"))
    try:
        encoder, head = files.load(BASE), files.load(HEAD)
    except (OSError, SafetensorError) as failure:
        raise DeploymentError(f"{newest}: a file cannot be read: {first_line(failure)}.") from None
    return KeptModel(
        unquote(newest.name),
        _when(newest),
        files.newest_round(BASE) or 0,
        files.newest_round(HEAD),
        encoder,
        head,
        parse_table(FinetuneSettings, settings, str(newest / FINETUNING)),
        _describe_runs([path for path in runs if path != newest]),
    )


def _time_of(folder: Path) -> float:
    """When the newest base of a run was kept, in seconds since 1970."""
    return (folder / FINETUNING).stat().st_mtime


def _when(folder: Path) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(_time_of(folder)))


def _describe_runs(folders: Collection[Path]) -> str:
    """The newest of some runs, the newest last; empty if there are none."""
    newest = sorted(folders, key=_time_of)[-_SHOWN_RUNS:]
    older = len(folders) - len(newest)
    return "; ".join([*([f"{older} older"] if older else []), *map(_describe_run, newest)])


def _describe_run(folder: Path) -> str:
    """What a person can tell a run by: the time of its newest base, the round, and the identifier for `--run`."""
    number = NodeFiles(folder).newest_round(BASE) or 0
    return f"{bounded(unquote(folder.name), MAX_NAME)} (round {number}, kept on {_when(folder)})"


def export_classifier(
    member: Member,
    folder: Path,
    out: Path,
    *,
    run: str = "",
    examples: int = 0,
    seed: int = 0,
    trains: bool = True,
    onnx: bool = False,
) -> None:
    """Write the classifier of a member's task: see `classifier_output.write_classifier`.

    Args:
        member: the member's settings.
        folder: the member's folder.
        out: the folder to create.
        run: see `read_kept_model`.
        examples: the number of training rows; 0: all.
        seed: of the drawn rows, the head and the training.
        trains: whether encoder and head are trained further.
        onnx: whether to write the classifier as ONNX too.

    Raises:
        ColdFusionError: nothing was kept, or the task or the base cannot be read.
    """
    from coldfusion_fl.data.task import load_task
    from coldfusion_fl.model.base import open_base

    spec = read_catalogues(member.catalogue, member.data_root)[member.task]
    kept = read_kept_model(folder, run)
    head = _describe_head(kept, trains)
    print_line(
        f"The base of round {kept.server_round}, which {member.name} evaluated on {kept.when}, with {head}. The run's "
        f"identifier is {bounded(kept.run, MAX_NAME)}."
    )
    if kept.others:
        print_line(f"{member.name} has bases of other runs too. Choose with --run: {kept.others}.")
    write_classifier(
        open_base(member.base),
        kept.encoder,
        load_task(member.task, member.catalogue, member.data_root),
        spec,
        kept.settings.model_copy(update={"examples": examples}),
        seed,
        out,
        kept_head=kept.head or None,
        trains=trains,
        onnx=onnx,
        is_fused=True,
    )


def _describe_head(kept: KeptModel, trains: bool) -> str:
    """The head that is used, in words.

    Raises:
        DeploymentError: there is no head, and none shall be trained.
    """
    if kept.head:
        return f"the head that this member kept in round {kept.head_round}"
    if not trains:
        raise DeploymentError(
            "--no-training: this member kept no head, because the run did not have keep-head = true in the table "
            "finetune. Leave out --no-training: a new head is trained.",
            code=ErrorCode.SETTINGS_CONFLICT,
        )
    return "a new head, because the run did not keep heads"
