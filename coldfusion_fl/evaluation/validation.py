"""The server-validation score: the server's own score of an encoder, on the validation split of a task."""

import math
from collections.abc import Callable
from dataclasses import replace

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.config.settings import EvaluateSettings, FinetuneSettings
from coldfusion_fl.data.task import Task
from coldfusion_fl.errors import MismatchError
from coldfusion_fl.evaluation.scores import score_task
from coldfusion_fl.model.base import Base


def validation_score_fn(
    base: Base,
    task: Task,
    finetuning: FinetuneSettings,
    settings: EvaluateSettings,
    seed: int,
    warn: Callable[[str], None],
) -> Callable[[Encoder], float]:
    """Make the frozen score of an encoder on the validation split of a task, in points.

    Args:
        base: the base, for its architecture and tokenizer.
        task: the task.
        finetuning: the schedule and the head.
        settings: the numbers of rows.
        seed: the seed of the drawn rows and the head.
        warn: is called with a sentence where an encoder has no score.

    Returns:
        The score. It is NaN where the encoder's outputs are not numbers: that is the worst score.
    """
    held_out = replace(task, test=task.validation)

    def score(encoder: Encoder) -> float:
        arrays = {name: encoder[name] for name in encoder}
        try:
            return score_task(base, arrays, held_out, "frozen", finetuning, settings, seed).value
        except MismatchError as reason:  # its outputs are not numbers: no contribution may end the run with that
            warn(f"An encoder has no server-validation score: {reason}")
            return math.nan

    return score
