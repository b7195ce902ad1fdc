"""The model card of a classifier: its README."""

from coldfusion_fl.classifier.training import TrainedClassifier
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.task import Task
from coldfusion_fl.model.base import Base
from coldfusion_fl.model.card import as_code, as_text, write_header
from coldfusion_fl.model.export import read_licence
from coldfusion_fl.versions import installed_versions

_CARD = """\
---
{header}
---

# {kind} for {task}

Finetuned with coldfusion-fl from {base} (SHA-256 of its arrays: {base_hash}) on {train} rows, in {steps} steps, with
the seed {seed}.

| {metric} on {test} test rows, in points | |
|---|---|
| this model | {score:.1f} |
| {baseline_name} | {baseline:.1f} |

{classes}

```python
{registration}from transformers import pipeline

classify = pipeline("text-classification", FOLDER)
classify("a text", truncation=True)
```

`coldfusion predict FOLDER FILE --out FILE` adds the predictions to a table.

Settings: learning rate {rate:g}, at most {epochs} epochs, batches of {batch}, texts cut at {length} tokens, head on
{head}.

Software: {versions}.
"""
_HEADS = {"mean": "the mean of the last hidden states", "class-token": "the class token"}


def classifier_card(
    base: Base, base_hash: str, task: Task, trained: TrainedClassifier, settings: FinetuneSettings, seed: int
) -> str:
    """The Markdown card of a classifier: what it was made from, its score with the number of rows, and how to use it.

    Args:
        base: the base, for its licence.
        base_hash: the SHA-256 of the base's arrays.
        task: the task.
        trained: the classifier.
        settings: the schedule of its training.
        seed: the seed of its training.
    """
    is_regression = task.classes is None
    return _CARD.format(
        header=write_header(pipeline_tag="text-classification", tags=["cold-fusion"], **read_licence(base.folder)),
        kind="A regression" if is_regression else "A classifier",
        task=as_text(task.name),
        base=as_code(base.reference),
        base_hash=base_hash,
        train=trained.train_rows,
        steps=trained.result.steps,
        seed=seed,
        metric=task.metric,
        test=len(task.test),
        score=trained.score,
        baseline_name="always the mean of train" if is_regression else "always the most frequent class of train",
        baseline=trained.baseline,
        classes="" if task.classes is None else f"Classes: {', '.join(map(as_text, task.classes))}.",
        registration="import coldfusion_fl.classifier  # registers the class of the model\n"
        if trained.head == "mean"
        else "",
        rate=settings.learning_rate,
        epochs=settings.epochs,
        batch=settings.batch_size,
        length=settings.max_length,
        head=_HEADS[trained.head],
        versions=", ".join(f"{name} {version}" for name, version in installed_versions().items()),
    )
