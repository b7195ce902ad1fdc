"""The scores of a base on a contributor's task. In a simulation, those of the first base are cached between runs.

Each run begins with the scores of the base that it starts from. A second run of the same base on the same rows, such as
one with another fusion operator, would compute the same scores again. A member of a deployment caches nothing.
"""

import functools
import time
from logging import INFO, WARNING
from pathlib import Path

from flwr.common import log

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.data.task import Task
from coldfusion_fl.evaluation.scores import Predictions, Score, score_and_predict
from coldfusion_fl.model.base import Base
from coldfusion_fl.runs.events import ScoresReused
from coldfusion_fl.runs.ledger import Ledger

from .messages import EvaluateRequest
from .node_settings import NodeSettings


def score_base(
    contributor: NodeSettings, request: EvaluateRequest, base: Base, encoder: Encoder, task: Task
) -> list[tuple[Score, Predictions]]:
    """Score a base in each mode of a request.

    An event of the run says which scores are from an earlier run.

    Args:
        contributor: the node's settings.
        request: the modes and the settings.
        base: the node's own base, for its architecture and tokenizer.
        encoder: all arrays of the base to score.
        task: the contributor's task.

    Returns:
        The scores in the order of the modes, with what they were computed from.

    Raises:
        SettingsError: a mode is not known here.
        MismatchError: the encoder does not fit the base, or the outputs are not numbers.
    """
    # The seed does not depend on the round: all rounds use the same rows, shots and heads, so a difference between two
    # scores comes from the bases.
    given = request.finetuning, request.settings, request.seed
    compute = functools.partial(score_and_predict, base, encoder, task)
    if contributor.run_folder is None or request.server_round != 0:
        return [compute(mode, *given) for mode in request.modes]
    # Only here, so that a member of a deployment does not need what the cache needs.
    from coldfusion_fl.evaluation.score_cache import CachedScore, ScoreCache, score_cache_folder
    from coldfusion_fl.evaluation.score_key import score_keys

    folder = score_cache_folder(_warn_once)
    keys = score_keys(base, encoder, task, request.modes, *given) if folder else {}
    if not folder or not keys:
        return [compute(mode, *given) for mode in request.modes]
    cache = ScoreCache(folder, _warn_once)
    found: list[tuple[Score, Predictions]] = []
    reused: dict[str, float] = {}
    for mode in request.modes:
        one = cache.load(keys[mode])
        if one:
            reused[mode] = one.seconds
        else:
            began = time.monotonic()
            score, predictions = compute(mode, *given)
            one = CachedScore(score, predictions, time.monotonic() - began)
            cache.save(keys[mode], one)
        found.append((one.score, one.predictions))
    if reused:
        _report(contributor.run_folder, contributor.name, reused, folder)
    return found


@functools.cache
def _warn_once(line: str) -> None:
    """Log a warning, the same one once in a process."""
    log(WARNING, "%s", line)


def _report(run_folder: Path, name: str, reused: dict[str, float], folder: Path) -> None:
    """Say which scores are from an earlier run, in the log and as an event of the run.

    Args:
        run_folder: the folder of the run.
        name: the contributor's name.
        reused: the seconds that it took to compute each score, by mode.
        folder: the folder of the cache.
    """
    log(INFO, "'%s': computed by an earlier run, and cached in %s: %s", name, folder, ", ".join(reused))
    if run_folder.is_dir():
        seconds = sum(reused.values())
        event = ScoresReused(round=0, name=name, modes=list(reused), folder=str(folder), seconds=seconds)
        Ledger(run_folder).emit(event)
