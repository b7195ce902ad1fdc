"""A comparison of models on tasks: scores on the same rows, differences with intervals, and what these show in words.

The first model is the reference, and each other one is compared with it. All models get the same test rows, training
rows, seeds and kind of head. So the differences are paired, and the models alone make them.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.config.settings import MODES, EvaluateSettings, FinetuneSettings
from coldfusion_fl.data.task import Task
from coldfusion_fl.errors import ErrorCode, SettingsError
from coldfusion_fl.evaluation.bootstrap import difference_error
from coldfusion_fl.evaluation.comparison_rows import COLUMNS, comparison_rows
from coldfusion_fl.evaluation.differences import Difference, describe_difference, mean_difference
from coldfusion_fl.evaluation.intervals import TINY, interval
from coldfusion_fl.evaluation.scores import Predictions, Score, score_and_predict
from coldfusion_fl.model.base import Base
from coldfusion_fl.model.encoder import load_encoder

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class LoadedModel:
    """A model to compare.

    Attributes:
        base: the base, for its architecture and tokenizer.
        encoder: its arrays by name.
        hash: of the arrays, see `encoder_hash`.
    """

    base: Base
    encoder: Encoder
    hash: str


@dataclass(frozen=True)
class ComparedModel:
    """A model of a comparison.

    Attributes:
        model: the folder or Hub id, as it was given.
        hash: of the encoder's arrays; 64 hex digits.
    """

    model: str
    hash: str


@dataclass(frozen=True)
class TaskScores:
    """The scores of all models on a task.

    Attributes:
        task: the task's name.
        metric: the task's metric.
        train_examples: the number of labelled rows that were trained on.
        test_examples: the number of rows that were scored.
        test_split: the number of rows of the test split that they were drawn from.
        test_rows_hash: identifies the rows that were scored; 12 hex digits.
        baseline: the score of always predicting the most frequent class, or the mean, on the same rows; in points.
        scores: in points, in the order of the models.
    """

    task: str
    metric: str
    train_examples: int
    test_examples: int
    test_split: int
    test_rows_hash: str
    baseline: float
    scores: tuple[float, ...]


@dataclass(frozen=True)
class MeanScores:
    """The means over the tasks, in points.

    Attributes:
        baseline: the mean baseline.
        scores: the mean scores, in the order of the models.
    """

    baseline: float
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """A comparison of models.

    Attributes:
        mode: `finetuned`, `frozen` or `few-shot`.
        head: the head of all models, `class-token` or `mean`.
        seed: the seed of the drawn rows, the heads and the training.
        models: the reference first.
        tasks: the scores on each task.
        means: over the tasks; None for one task.
        differences: for each model except the reference: on each task, then over the mean of several tasks.
        notes: sentences on what limits the comparison.
    """

    mode: str
    head: str
    seed: int
    models: tuple[ComparedModel, ...]
    tasks: tuple[TaskScores, ...]
    means: MeanScores | None
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]

    def to_dataframe(self) -> "pd.DataFrame":
        """A row for each task and model, and then for the means: the columns of `coldfusion compare --csv`."""
        import pandas as pd

        return pd.DataFrame(comparison_rows(self), columns=list(COLUMNS))


@dataclass(frozen=True)
class Step:
    """The score that is computed next.

    Attributes:
        task: the task's name.
        model: the model.
        number: of the score, from 1.
        total: the number of scores.
    """

    task: str
    model: str
    number: int
    total: int


def load_models(bases: Sequence[Base]) -> tuple[LoadedModel, ...]:
    """Load the encoders of some bases. All are in memory together.

    Raises:
        SettingsError: there are fewer than two bases, or two have the same weights.
        ModelError: weights cannot be read.
    """
    loaded = []
    for base in bases:
        encoder = load_encoder(base)
        loaded.append(LoadedModel(base, encoder, encoder_hash(encoder)))
    _require_different(loaded)
    return tuple(loaded)


def _require_different(models: Sequence[LoadedModel]) -> None:
    if len(models) < 2:
        raise SettingsError(
            f"a comparison needs two models or more, but has {len(models)}.", code=ErrorCode.SETTING_MISSING
        )
    by_hash: dict[str, str] = {}
    for model in models:
        if model.hash in by_hash:
            raise SettingsError(
                f"{by_hash[model.hash]} and {model.base.reference} are identical: their encoders have the same "
                "weights, so no score can differ. Name each model once.",
                code=ErrorCode.SETTINGS_CONFLICT,
            )
        by_hash[model.hash] = model.base.reference


def choose_common_head(models: Sequence[LoadedModel], setting: str) -> tuple[str, tuple[str, ...]]:
    """The head that all models get, and a note if some of them were pretrained for another one.

    The head can change a score more than the encoder does, so two models are only compared with the same head.

    Args:
        models: the reference first.
        setting: as `finetune.head`; `auto` is the reference's own head.
    """
    head = models[0].base.choose_head(setting)
    others = [model.base.reference for model in models if model.base.pooling != head]
    if setting != "auto" or not others:
        return head, ()
    return head, (
        f"All models are scored with the reference's own head, {head}. These were pretrained for the other head, and "
        f"may score higher with it: {', '.join(others)}.",
    )


def compare(
    models: Sequence[LoadedModel],
    tasks: Sequence[Task],
    mode: str,
    finetuning: FinetuneSettings,
    settings: EvaluateSettings,
    seed: int,
    on_step: Callable[[Step], None] | None = None,
) -> Comparison:
    """Compare models with the first one, on the same rows, with the same seeds and the same kind of head.

    The errors of the differences come from a paired bootstrap over the test rows, see `bootstrap.difference_error`.

    Args:
        models: two or more, from `load_models`; the reference first. They may have different architectures.
        tasks: one or more, with different names.
        mode: `finetuned`, `frozen` (a linear probe) or `few-shot`.
        finetuning: the schedule and the head; with `auto`, all get the reference's head.
        settings: the numbers of rows, shots and seeds.
        seed: the seed of the drawn rows, the heads and the training.
        on_step: is called before each score is computed.

    Raises:
        SettingsError: there are fewer than two models, two have the same weights, there is no task, the mode is
            unknown, or a few-shot score has 0 shots.
        MismatchError: a model's outputs are not finite numbers.
    """
    _require_different(models)
    if not tasks or mode not in MODES:
        raise SettingsError(f"a comparison needs a task, and a mode: one of {', '.join(MODES)}.")
    head, notes = choose_common_head(models, finetuning.head)
    finetuning = finetuning.model_copy(update={"head": head})
    scores: list[TaskScores] = []
    differences: list[list[Difference]] = []
    for place, task in enumerate(tasks):
        scored: list[tuple[Score, Predictions]] = []
        for number, model in enumerate(models, start=place * len(models) + 1):
            if on_step:
                on_step(Step(task.name, model.base.reference, number, len(tasks) * len(models)))
            scored.append(score_and_predict(model.base, model.encoder, task, mode, finetuning, settings, seed))
        scores.append(_task_scores(task, scored))
        differences.append(_differences(models, task, scored))
    return Comparison(
        mode,
        head,
        seed,
        tuple(ComparedModel(model.base.reference, model.hash) for model in models),
        tuple(scores),
        _mean_scores(scores) if len(scores) > 1 else None,
        tuple(itertools.chain(*(_with_mean(of_model, scores) for of_model in zip(*differences, strict=True)))),
        (*notes, *_notes(scores)),
    )


def _task_scores(task: Task, scored: Sequence[tuple[Score, Predictions]]) -> TaskScores:
    score, predictions = scored[0]
    return TaskScores(
        task.name,
        task.metric,
        score.train_examples,
        score.test_examples,
        len(task.test),
        score.test_rows_hash,
        task.baseline(predictions.labels),
        tuple(score.value for score, _ in scored),
    )


def _mean_scores(scores: Sequence[TaskScores]) -> MeanScores:
    by_model = zip(*(task.scores for task in scores), strict=True)
    means = tuple(sum(of_model) / len(scores) for of_model in by_model)
    return MeanScores(sum(task.baseline for task in scores) / len(scores), means)


def _differences(
    models: Sequence[LoadedModel], task: Task, scored: Sequence[tuple[Score, Predictions]]
) -> list[Difference]:
    """The differences of all other models from the reference on a task; the first score is that of the reference."""
    reference, before = scored[0]
    found = []
    for model, (score, after) in zip(models[1:], scored[1:], strict=True):
        difference = score.value - reference.value
        # The resamples depend on the order of the two. In the order of the hashes, B compared with A has the same error
        # as A compared with B.
        pair = (before, after) if models[0].hash <= model.hash else (after, before)
        error = difference_error(task.metric, before.labels, *(predictions.predicted for predictions in pair))
        ends = interval(difference, error)
        found.append(describe_difference(model.base.reference, task.name, difference, ends, score.test_examples))
    return found


def _with_mean(differences: Sequence[Difference], scores: Sequence[TaskScores]) -> list[Difference]:
    """The differences of a model on all tasks, and then their mean over several tasks."""
    hashes = [task.test_rows_hash for task in scores]
    return [*differences, *([mean_difference(differences, hashes)] if len(differences) > 1 else [])]


def _notes(scores: Sequence[TaskScores]) -> list[str]:
    """Sentences on tasks whose scores or intervals say little."""
    notes = []
    if weak := [task.task for task in scores if max(task.scores) <= task.baseline]:
        notes.append(f"No model scores higher than the baseline on {', '.join(weak)}.")
    if small := [task.task for task in scores if task.test_examples < TINY]:
        notes.append(f"Fewer than {TINY} test rows, so that an interval is rough: {', '.join(small)}.")
    return notes
