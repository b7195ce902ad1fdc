"""The parts of model cards: the header, scores in it, how to use a model, and texts of other parties in Markdown."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from huggingface_hub.repocard import ModelCard, ModelCardData
from huggingface_hub.repocard_data import EvalResult

from coldfusion_fl import formatting
from coldfusion_fl.data.catalogue import TaskSpec
from coldfusion_fl.sanitize import sanitize

# Stands in the code of a card for the place of its model, until `place_card` names it.
THIS_MODEL = "THIS_MODEL"
PLACE = f"In this code, `{THIS_MODEL}` is this folder."
_TAGS = ("cold-fusion",)
# What Markdown takes for markup in a sentence or in a cell of a table.
_MARKUP = re.compile(r"[\\`*\[\]<>|~$&#]|(?<![^\W_])_|_(?![^\W_])")
# What readers of Markdown make a link of without any markup.
_LINK = re.compile(r"://|www\.|\b(mailto|xmpp):|[\w.+-]@[\w-]+\.", re.IGNORECASE)
# The Hub's names of metrics, and their arguments.
_METRICS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "accuracy": ("accuracy", {}),
    "macro-f1": ("f1", {"average": "macro"}),
    "matthews": ("matthews_correlation", {}),
    "spearman": ("spearmanr", {}),
}

_TRANSFORMERS = f"""\
```python
from transformers import AutoModel, AutoTokenizer

encoder = AutoModel.from_pretrained("{THIS_MODEL}")
tokenizer = AutoTokenizer.from_pretrained("{THIS_MODEL}")
```
"""
_SENTENCE_TRANSFORMERS = f"""
```python
from sentence_transformers import SentenceTransformer

encoder = SentenceTransformer("{THIS_MODEL}")
vectors = encoder.encode(["a text", "another text"])
```
"""
_FINETUNE = f"""
A classifier for a task of your own, with coldfusion-fl:

```console
$ coldfusion finetune {THIS_MODEL} --task TASK --out my-classifier
```
"""


def write_header(
    *,
    licence: Mapping[str, Any],
    tags: Sequence[str] = (),
    base_models: Sequence[str] = (),
    relation: str = "finetune",
    results: Sequence[EvalResult] = (),
    name: str = "",
    **values: Any,
) -> str:
    """The YAML header of a model card, without its fences.

    Args:
        licence: as `export.read_licence` returns it.
        tags: beside that of this package.
        base_models: ids of models of the Hub.
        relation: what the model is to them, in the Hub's words.
        results: scores, as `score_result` makes them.
        name: of the model in the list of results; needed if there are any.
        values: other keys of `ModelCardData`, such as `pipeline_tag`. Empty ones are left out.
    """
    if base_models:
        models = list(dict.fromkeys(base_models))
        values |= {"base_model": models if len(models) > 1 else models[0], "base_model_relation": relation}
    if results:
        values |= {"eval_results": list(results), "model_name": name}
    values = {"library_name": "transformers", **{key: value for key, value in values.items() if value}}
    return str(ModelCardData(tags=[*_TAGS, *tags], **licence, **values).to_yaml())


def encoder_header(*, has_sentence_pooling: bool, tags: Sequence[str], **values: Any) -> str:
    """The header of an encoder without a head; the arguments as `write_header`, and whether it has a pooling."""
    kind: dict[str, Any] = {"pipeline_tag": "feature-extraction"}
    if has_sentence_pooling:
        kind = {"library_name": "sentence-transformers", "pipeline_tag": "sentence-similarity"}
    return write_header(tags=tags, **kind, **values)


def score_result(
    task: str,
    metric: str,
    points: float,
    *,
    rows: int,
    mode: str,
    facts: Mapping[str, Any],
    spec: TaskSpec | None = None,
) -> EvalResult:
    """A score for the header of a card.

    The format has no place for an interval or a number of rows, so they are arguments of the metric, and in its name.

    Args:
        task: the name of the task.
        metric: a key of `metrics.METRICS`.
        points: the score.
        rows: the number of test rows.
        mode: how it was scored.
        facts: what else is known, such as `difference`, `low` and `high`; values that are None are left out.
        spec: the task in its catalogue; only a data set of the Hub is named. None: it is not known.
    """
    data_set = spec if spec and spec.hub else TaskSpec()
    kind, arguments = _METRICS.get(metric, (metric, {}))
    known = {key: round(value, 3) for key, value in facts.items() if value is not None}
    ends = formatting.interval(known.get("low"), known.get("high"), signed="difference" in known)
    change = f", {formatting.number(known['difference'], signed=True)} to the base" if "difference" in known else ""
    return EvalResult(
        task_type="text-classification",
        dataset_type=data_set.hub or task,
        dataset_name=task,
        dataset_config=data_set.config or None,
        dataset_split=data_set.test or "test",
        dataset_revision=data_set.revision or None,
        metric_type=kind,
        metric_value=round(points, 3),
        metric_name=f"{task}: {metric} in points, {mode}, {rows} test rows{change}{f' {ends}' if ends else ''}",
        metric_args={**arguments, "mode": mode, "test-rows": rows, **known},
    )


def encoder_usage(*, has_sentence_pooling: bool) -> str:
    """How to load an encoder, and how to make a classifier of it, as Markdown."""
    return f"{PLACE}\n\n{_TRANSFORMERS}{_SENTENCE_TRANSFORMERS if has_sentence_pooling else ''}{_FINETUNE}"


def place_card(text: str, repository: str) -> str:
    """A card for a repository of the Hub: its code and its list of scores name the repository.

    Raises:
        ValueError: the header cannot be read.
    """
    card = ModelCard(text.replace(f"{PLACE}\n\n", "").replace(THIS_MODEL, repository))
    data: Any = card.data
    if data.eval_results:
        data.model_name = repository.rpartition("/")[2]
    return str(card)


def licence_text(licence: Mapping[str, Any]) -> str:
    """The names of a licence that `export.read_licence` returned, with commas between them; empty: none is known."""
    names = licence.get("license", "")
    return names if isinstance(names, str) else ", ".join(map(str, names))


def as_text(text: str) -> str:
    """A text as Markdown that shows it as it is, on one line: without markup, and without links."""
    # No escape keeps all readers of Markdown from making a link of an address, but a code span does.
    return " ".join(
        as_code(word).replace("|", "\\|") if _LINK.search(word) else _MARKUP.sub(r"\\\g<0>", sanitize(word))
        for word in text.split()
    )


def as_code(text: str) -> str:
    """A text as a code span, on one line; its fence is longer than any row of backticks in the text."""
    whole = sanitize(" ".join(text.split()))
    fence = "`" * (1 + max(map(len, re.findall("`+", whole)), default=0))
    space = " " if "`" in whole else ""
    return f"{fence}{space}{whole}{space}{fence}"
