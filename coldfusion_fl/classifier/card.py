"""The model card of a classifier: its README."""

from coldfusion_fl.classifier.training import TrainedClassifier
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.catalogue import TaskSpec
from coldfusion_fl.data.task import Task
from coldfusion_fl.evaluation.intervals import Interval, proportion_interval
from coldfusion_fl.formatting import interval
from coldfusion_fl.model.base import Base
from coldfusion_fl.model.card import (
    PLACE,
    THIS_MODEL,
    as_code,
    as_text,
    licence_text,
    score_result,
    write_header,
)
from coldfusion_fl.model.origin import Origin, read_origin
from coldfusion_fl.versions import installed_versions

_CARD = """\
---
{header}
---

# {kind} for {task}

{made} with coldfusion-fl from {base} (SHA-256 of its arrays: {base_hash}){head_made}{how}.

{licence}

## Test scores

| {metric} on {test} test rows, in points | | 95 % |
|---|---|---|
| this model | {score:.1f} | {interval} |
| {baseline_name} | {baseline:.1f} | |

{noise}

{classes}

## Use

{place}

```python
{registration}from transformers import pipeline

classify = pipeline("text-classification", "{this}")
classify("a text", truncation=True)
```

`coldfusion predict {this} FILE --out FILE` adds the predictions to a table. If there is `onnx/model.onnx`, it is for
programs without PyTorch: the inputs are the tensors of the tokenizer, the output is `logits`.

## Training

{schedule}Texts cut at {length} tokens, head on {head}.

Software: {versions}.
"""
_HEADS = {"mean": "the mean of the last hidden states", "class-token": "the class token"}


def classifier_card(
    base: Base,
    base_hash: str,
    task: Task,
    trained: TrainedClassifier,
    settings: FinetuneSettings,
    seed: int,
    spec: TaskSpec | None = None,
    *,
    is_fused: bool = False,
) -> str:
    """The Markdown card of a classifier: what it was made from, its score with the number of rows, and how to use it.

    Args:
        base: the base, for its name and its licence.
        base_hash: the SHA-256 of the arrays that the training began with.
        task: the task.
        trained: the classifier.
        settings: the schedule of its training.
        seed: the seed of its training.
        spec: the task in its catalogue; None: it is not known.
        is_fused: whether these arrays are not the base's own, but those of a run that began with it.
    """
    is_regression, origin = task.classes is None, read_origin(base)
    ends = proportion_interval(trained.score, len(task.test)) if task.metric == "accuracy" else (None, None)
    return _CARD.format(
        header=_header(origin, task, trained, spec, ends),
        kind="A regression" if is_regression else "A classifier",
        task=as_text(task.name),
        base=f"a fused base of a run that began with {origin.to_markdown()}" if is_fused else origin.to_markdown(),
        base_hash=base_hash,
        made="Finetuned" if trained.result else "Made",
        head_made=" and the head that the task's contributor kept in the run" if trained.is_kept else "",
        how=_how(trained, spec, seed),
        licence=_licence_sentence(origin),
        metric=task.metric,
        test=len(task.test),
        baseline_name="always the mean of train" if is_regression else "always the most frequent class of train",
        score=trained.score,
        interval=interval(*ends, signed=False),
        baseline=trained.baseline,
        noise=_noise_sentence(trained, ends),
        classes="" if task.classes is None else f"Classes: {', '.join(map(as_text, task.classes))}.",
        place=PLACE,
        this=THIS_MODEL,
        registration="import coldfusion_fl.classifier  # registers the class of the model\n"
        if trained.head == "mean"
        else "",
        schedule=_schedule(settings) if trained.result else "",
        length=settings.max_length,
        head=_HEADS[trained.head],
        versions=", ".join(f"{name} {version}" for name, version in installed_versions().items()),
    )


def _schedule(settings: FinetuneSettings) -> str:
    return (
        f"Learning rate {settings.learning_rate:g}, at most {settings.epochs} epochs, batches of "
        f"{settings.batch_size}. "
    )


def _how(trained: TrainedClassifier, spec: TaskSpec | None, seed: int) -> str:
    """The training of a classifier, as the rest of a sentence."""
    if trained.result is None:
        return ", without further training"
    data = f" of {as_code(spec.hub)} of the Hub" if spec and spec.hub else ""
    return f", on {trained.train_rows} rows{data}, in {trained.result.steps} steps, with the seed {seed}"


def _header(origin: Origin, task: Task, trained: TrainedClassifier, spec: TaskSpec | None, ends: Interval) -> str:
    facts = {"baseline": trained.baseline, "low": ends[0], "high": ends[1]}
    result = score_result(
        task.name, task.metric, trained.score, rows=len(task.test), mode="finetuned", facts=facts, spec=spec
    )
    return write_header(
        pipeline_tag="text-classification",
        licence=origin.licence,
        base_models=[origin.hub_id] if origin.hub_id else [],
        datasets=[spec.hub] if spec and spec.hub else [],
        results=[result],
        name=f"{task.name} classifier",
    )


def _licence_sentence(origin: Origin) -> str:
    name = licence_text(origin.licence)
    return f"Licence of the base: {as_text(name)}." if name else "The licence of the base is not known."


def _noise_sentence(trained: TrainedClassifier, ends: Interval) -> str:
    """What the score shows: whether it is beyond the baseline."""
    below = "**The score is not above the baseline: the texts do not help this model.** "
    return (below if trained.score <= trained.baseline else "") + _interval_sentence(trained, ends)


def _interval_sentence(trained: TrainedClassifier, ends: Interval) -> str:
    low, high = ends
    if low is None or high is None:
        return "The score has no interval: a few points more or less may be noise."
    covers = "The interval covers the choice of the test rows, not another seed or other training rows."
    if low <= trained.baseline <= high:
        return f"**The baseline is inside the interval: the score may be noise.** {covers}"
    return covers
