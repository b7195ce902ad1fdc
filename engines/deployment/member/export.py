"""What a member has kept of a run: the newest base, its own head, and the settings of its training."""

import json
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from coldfusion_fl.arrays.encoder import EncoderDict
from coldfusion_fl.config.parsing import parse_table
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.engines.deployment.member.join import flower_home
from coldfusion_fl.errors import DeploymentError, ErrorCode
from coldfusion_fl.runs.node_state import BASE, FINETUNING, HEAD, NodeFiles


@dataclass(frozen=True)
class KeptModel:
    """What a member has kept of one run.

    Attributes:
        run: the identifier of the run.
        server_round: the round whose base it is.
        encoder: the arrays of the base by name.
        head: the arrays of the member's head by name; empty if the run did not keep heads.
        settings: the training of the run's contributors.
    """

    run: str
    server_round: int
    encoder: EncoderDict
    head: EncoderDict
    settings: FinetuneSettings


def read_kept_model(folder: Path, run: str = "") -> KeptModel:
    """Read what a member has kept.

    Args:
        folder: the member's folder.
        run: the identifier of a run, or its beginning; empty: the run with the newest base.

    Raises:
        DeploymentError: there is no such run, or it has sent no base to evaluate.
    """
    state = flower_home(folder) / "state"
    runs = [path for path in state.glob("*") if (path / FINETUNING).is_file()]
    named = [path for path in runs if unquote(path.name).startswith(run)]
    if not named:
        known = ", ".join(sorted(unquote(path.name) for path in runs))
        which = f" of a run '{run}', but of {known}" if run and known else ""
        raise DeploymentError(
            f"{folder}: this member has kept no base{which}. A member keeps the newest base that it has evaluated.",
            code=ErrorCode.MODEL_MISSING,
        )
    newest = max(named, key=lambda path: (path / FINETUNING).stat().st_mtime)
    files, settings = NodeFiles(newest), json.loads((newest / FINETUNING).read_text(encoding="utf-8"))
    return KeptModel(
        unquote(newest.name),
        files.newest_round(BASE) or 0,
        files.load(BASE),
        files.load(HEAD),
        parse_table(FinetuneSettings, settings, str(newest / FINETUNING)),
    )
