"""The server's own score of an encoder, for checkpoints that no contributor's check has tried."""

from collections.abc import Callable

from coldfusion_fl.aggregation.screening import ScoreFunction
from coldfusion_fl.checkpoints.checkpoint import LoadedBase
from coldfusion_fl.config.settings import EvaluateSettings, FinetuneSettings, Settings
from coldfusion_fl.data.task import Task, load_task
from coldfusion_fl.evaluation.validation import validation_score_fn
from coldfusion_fl.preflight.task_check import TaskChecker


def checked_score(settings: Settings, loaded: LoadedBase, warn: Callable[[str], None]) -> ScoreFunction:
    """The score on the validation split of the task that `server-validation` names, after a check of the task.

    Raises:
        CatalogueError: a catalogue cannot be read, or the task is unknown.
        DataError: its rows cannot be read.
    """
    task = load_task(settings.server.server_validation, settings.tasks.catalogue, settings.tasks.data_root)
    return score_with_task(task, loaded, settings.finetune, settings.evaluate, settings.seed, warn)


def score_with_task(
    task: Task,
    loaded: LoadedBase,
    finetuning: FinetuneSettings,
    evaluation: EvaluateSettings,
    seed: int,
    warn: Callable[[str], None],
) -> ScoreFunction:
    """The score on the validation split of a task, after a check of the task."""
    TaskChecker(loaded.base, loaded.encoder, finetuning, trains=False).check(task)
    return validation_score_fn(loaded.base, task, finetuning, evaluation, seed, warn)
