"""A task: labelled texts in three splits, with their classes and their metric."""

import contextlib
import dataclasses
import functools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from coldfusion_fl.data.catalogue import SPLITS, Catalogue, TaskSpec, read_catalogues
from coldfusion_fl.data.columns import select_columns
from coldfusion_fl.data.labels import check_classes, sorted_classes, to_class_indices, to_numbers
from coldfusion_fl.data.metrics import score
from coldfusion_fl.data.report import LeftOut, ReadReport
from coldfusion_fl.data.rows import read_splits
from coldfusion_fl.data.splits import complete_splits, warn_of_contradictions, warn_of_overlaps
from coldfusion_fl.errors import DataError, ErrorCode, count

if TYPE_CHECKING:
    from coldfusion_fl.data.memory.tables import Tables

_SHOWN_CLASSES = 12


@dataclass(frozen=True)
class Examples:
    """Labelled rows of one split.

    Attributes:
        texts: n texts.
        pairs: the n second texts of a pair task, else None.
        labels: shape (n,): class indices (int64), or the numbers (float32) of a regression.
    """

    texts: list[str]
    pairs: list[str] | None
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: np.ndarray) -> "Examples":
        """The rows with these indices, shape (k,), in their order."""
        pairs = None if self.pairs is None else [self.pairs[i] for i in rows]
        return Examples([self.texts[i] for i in rows], pairs, self.labels[rows])

    def draw(self, limit: int, seed: Sequence[int]) -> "Examples":
        """At most `limit` rows, drawn without replacement with a seed; 0: all rows, in random order."""
        order = np.random.default_rng(list(seed)).permutation(len(self))
        return self.take(order[:limit] if limit else order)


@dataclass(frozen=True, repr=False)
class Task:
    """A labelled data set.

    `coldfusion_fl.load_task` reads one of a catalogue, and `from_dataframe` makes one of rows in memory.

    Attributes:
        name: the name in the catalogue.
        metric: a key of `metrics.METRICS`.
        classes: the names of the classes by index; None for a regression.
        train: the training split.
        validation: the development split, for early stopping.
        test: the test split.
        report: what was read of the task's files, and what was left out.
        text: the columns or templates of its texts: one, or two for pairs.
        shards: the number of tasks that share a data set with this one, itself included: see `catalogue`. All have the
            same validation and test rows.
    """

    name: str
    metric: str
    classes: tuple[str, ...] | None
    train: Examples
    validation: Examples
    test: Examples
    report: ReadReport = field(default_factory=ReadReport, compare=False)
    text: tuple[str, ...] = ("text",)
    shards: int = 1

    def __repr__(self) -> str:
        return "\n  ".join([f"Task {self.name!r}, {self.metric}", *self.describe()])

    @classmethod
    def from_dataframe(
        cls,
        rows: "Tables",
        name: str,
        *,
        text: str | Sequence[str] | None = None,
        label: str | None = None,
        labels: Mapping[str, str] | None = None,
        metric: str = "accuracy",
    ) -> "Task":
        """Make a task of rows in memory: a pandas DataFrame, a `datasets.Dataset`, or a list of dicts.

        A missing test or validation split is split off train, in the same way as for files: see `describe`. Rows
        without a text or a label are left out. What was guessed is logged as a warning, and is in `report`.

        >>> from coldfusion_fl import Task
        >>> rows = [{"body": f"{'good' if i % 2 else 'bad'} film {i}", "stars": i % 2} for i in range(100)]
        >>> task = Task.from_dataframe(rows, "films", text="body", label="stars", labels={"0": "bad", "1": "good"})
        >>> task.classes, len(task.train) + len(task.validation) + len(task.test)
        (('bad', 'good'), 100)

        Args:
            rows: the train rows; or a mapping with the rows of `train`, `validation` and `test`, such as a
                `datasets.DatasetDict`.
            name: the task's name. In a run, it is the contributor's name too.
            text: a column, a template such as `"{title}: {body}"`, or two of these for pairs of texts. None: the
                column `text`, or else the only other column with texts.
            label: the column of the labels. None: the column `label`, `labels`, `class`, `category` or `target`.
            labels: the classes to keep, by the value of the label; rows of other classes are left out. None: all
                values. The class names of a `datasets.ClassLabel` are used by themselves.
            metric: `accuracy`, `macro-f1` or another one of `data.metrics.METRICS`. With `spearman`, the labels are
                numbers.

        Raises:
            DataError: a column is missing or cannot be guessed, or the rows are not a valid task.
            CatalogueError: the metric is unknown, or there are more than two texts.
        """
        from coldfusion_fl.data.memory.tables import task_from_tables

        return task_from_tables(rows, name, text, label, labels, metric)

    @property
    def num_labels(self) -> int:
        """The number of a head's outputs: one per class; 1 for a regression."""
        return len(self.classes) if self.classes else 1

    @property
    def _splits(self) -> dict[str, Examples]:
        return {"train": self.train, "validation": self.validation, "test": self.test}

    @functools.cached_property
    def mean_and_deviation(self) -> tuple[float, float]:
        """Of the train split's labels; the deviation of constant labels is 1."""
        labels = self.train.labels.astype(np.float64)
        return float(labels.mean()), float(labels.std()) if np.ptp(labels) else 1.0

    def for_training(self, examples: Examples) -> Examples:
        """The examples with the labels that a head is trained on.

        The labels of a regression are standardised by the train split's mean and deviation: a new head's outputs are
        close to 0, and would take thousands of steps to reach prices or years. Class indices do not change.
        """
        if self.classes is not None:
            return examples
        mean, deviation = self.mean_and_deviation
        return dataclasses.replace(examples, labels=((examples.labels - mean) / deviation).astype(np.float32))

    def predictions(self, outputs: np.ndarray) -> np.ndarray:
        """The predictions, shape (n,), of a head's outputs, shape (n, num_labels).

        Returns:
            Class indices (int64), or numbers (float64) in the unit of the task's labels.
        """
        if self.classes is not None:
            return outputs.argmax(axis=-1)
        mean, deviation = self.mean_and_deviation
        return outputs.squeeze(-1).astype(np.float64) * deviation + mean

    def score_outputs(self, outputs: np.ndarray, labels: np.ndarray) -> float:
        """The score, in points, of a head's outputs of shape (n, num_labels) for labels of shape (n,)."""
        return score(self.metric, labels, self.predictions(outputs))

    def class_counts(self) -> dict[str, tuple[int, int, int]]:
        """The number of rows of each class in train, validation and test; empty for a regression."""
        names = self.classes or ()
        parts = self._splits.values() if names else ()
        counts = [np.bincount(part.labels, minlength=len(names)).tolist() for part in parts]
        return dict(zip(names, zip(*counts, strict=True), strict=True))

    def describe(self) -> list[str]:
        """The task's sizes and classes, and what was left out or guessed: one fact per line, for the start of a run."""
        sizes = ", ".join(f"{len(part):,} {name}" for name, part in self._splits.items())
        if self.classes is None:
            labels = self.train.labels
            return [f"{sizes}; numbers from {labels.min():g} to {labels.max():g}", *self.report.lines(brief=True)]
        counts = {name: sum(numbers) for name, numbers in self.class_counts().items()}
        shown = ", ".join(f"{name}: {number:,}" for name, number in list(counts.items())[:_SHOWN_CLASSES])
        more = f" and {len(counts) - _SHOWN_CLASSES} more" if len(counts) > _SHOWN_CLASSES else ""
        return [f"{sizes}; {count(len(counts), 'class', 'classes')}: {shown}{more}", *self.report.lines(brief=True)]

    def baseline(self, labels: np.ndarray | None = None) -> float:
        """The score, in points, of always predicting the train split's most frequent class, or its mean.

        Args:
            labels: those of the rows that are scored, shape (n,); None: of the whole test split.
        """
        truth = self.test.labels if labels is None else labels
        prediction = self.train.labels.mean() if self.classes is None else np.bincount(self.train.labels).argmax()
        return score(self.metric, truth, np.full_like(truth, prediction))


def read_task(name: str, catalogue: Catalogue) -> Task:
    """Read a task of a catalogue that is read already. `load_task` also caches the result.

    Raises:
        CatalogueError: the catalogue has no such task.
        DataError: the rows cannot be read, or are not a valid task.
    """
    with _errors_of(name, catalogue):
        return _take_shard(name, catalogue[name], _read_whole(name, catalogue))


@functools.lru_cache(maxsize=64)
def load_task(name: str, catalogues: tuple[str, ...] = ("packaged",), data_root: str = "") -> Task:
    """Read a task of a catalogue, with a cache: a process reads each task once.

    Args:
        name: the task's name.
        catalogues: names of shipped catalogues, or paths of TOML files.
        data_root: the folder that the catalogue's relative paths are relative to; empty: the catalogue's own folder.

    Raises:
        CatalogueError: the catalogue cannot be read or has no such task.
        DataError: the rows cannot be read, or are not a valid task.
    """
    catalogue = load_catalogues(catalogues, data_root)
    with _errors_of(name, catalogue):
        return _take_shard(name, catalogue[name], _load_whole(catalogue.first_shard(name), catalogues, data_root))


# There may be a thousand shards of a data set, which share its rows. Four data sets stay in memory.
@functools.lru_cache(maxsize=4)
def _load_whole(name: str, catalogues: tuple[str, ...], data_root: str) -> Task:
    return _read_whole(name, load_catalogues(catalogues, data_root))


@functools.lru_cache(maxsize=4)
def load_catalogues(references: tuple[str, ...], data_root: str = "") -> Catalogue:
    """Read several catalogues into one, with a cache: see `catalogue.read_catalogues`."""
    return read_catalogues(references, data_root)


def _read_whole(name: str, catalogue: Catalogue) -> Task:
    """The task that a data set is before it is divided into shards."""
    report = ReadReport()
    return build_task(name, catalogue[name], read_splits(catalogue, name, report), report)


@contextlib.contextmanager
def _errors_of(name: str, catalogue: Catalogue) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise DataError(f"task '{name}' ({catalogue.sources[name]}): {error}", code=error.code) from None


def build_task(name: str, spec: TaskSpec, splits: Mapping[str, pd.DataFrame], report: ReadReport | None = None) -> Task:
    """Build a task from tables of rows. A missing validation or test split is split off train.

    Args:
        name: the task's name.
        spec: the columns, classes and metric.
        splits: the rows by split; `train` is required.
        report: what was read so far; the task's report continues it.

    Raises:
        DataError: a column is missing, its cells are not texts, a split is empty, the label of a regression is not a
            number, there are fewer than two classes, or a class does not occur in train.
    """
    report = report or ReadReport()
    tables = {}
    for split, rows in splits.items():
        # An empty file has no columns, so it must not be reported as a missing column.
        tables[split] = rows if rows.empty else select_columns(rows, spec, split, report)
        if tables[split].empty:
            raise DataError(f"the {split} split has no rows. {_why_empty(split, report)}", code=ErrorCode.SPLIT_EMPTY)
    warn_of_overlaps(tables, report)
    if not spec.is_regression:
        warn_of_contradictions(tables["train"], report)
    complete_splits(tables, report, is_regression=spec.is_regression)
    classes = None if spec.is_regression else sorted_classes(tables, report)
    if classes:
        check_classes(classes, len(tables["train"]), report)
    report.splits = {split: dataclasses.replace(report.splits[split], rows=len(tables[split])) for split in SPLITS}
    examples = {split: _to_examples(table, classes, report) for split, table in tables.items()}
    return Task(name, spec.metric, classes, **examples, report=report, text=spec.text, shards=spec.shards)


def _why_empty(split: str, report: ReadReport) -> str:
    reasons = report.splits[split].reasons if split in report.splits else ""
    return f"Rows that are ignored: {reasons}." if reasons else "Rows without a text or label are ignored."


def _take_shard(name: str, spec: TaskSpec, whole: Task) -> Task:
    """A shard of a data set; all shards have the same classes, validation and test rows."""
    if not spec.shard:
        return whole
    rows = np.arange(spec.shard - 1, len(whole.train), spec.shards)
    if not len(rows):
        raise DataError(
            f"there are fewer train rows than the {count(spec.shards, 'shard')}.", code=ErrorCode.SPLIT_EMPTY
        )
    train = whole.report.splits["train"]
    left_out = train.left_out + Counter({LeftOut.OTHER_SHARD: len(whole.train) - len(rows)})
    splits = {**whole.report.splits, "train": dataclasses.replace(train, left_out=left_out, rows=len(rows))}
    report = dataclasses.replace(whole.report, splits=splits)
    return dataclasses.replace(whole, name=name, train=whole.train.take(rows), report=report)


def _to_examples(table: pd.DataFrame, classes: tuple[str, ...] | None, report: ReadReport) -> Examples:
    labels = to_numbers(table["label"], report) if classes is None else to_class_indices(table["label"], classes)
    pairs = table["pair"].tolist() if "pair" in table.columns else None
    return Examples(table["text"].tolist(), pairs, labels)
