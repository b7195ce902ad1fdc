"""A task: labelled texts in three splits, with their classes and their metric."""

import functools
import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from coldfusion_fl.config.messages import did_you_mean
from coldfusion_fl.data.catalogue import SPLITS, Catalogue, TaskSpec, read_catalogues
from coldfusion_fl.data.metrics import score
from coldfusion_fl.data.paths import PACKAGE, expand_user, package_path
from coldfusion_fl.data.rows import find_split_file, read_hub, read_rows
from coldfusion_fl.errors import DataError, ErrorCode, count

# Bounds of a hash of each row's text, in [0, 1). The rows between them are split off train if the split is missing, so
# every run and every machine uses the same rows. A text that two tasks share is a test row of both or of neither, so
# that no contributor trains on a text that another one tests on.
_HASH_BOUNDS = {"test": (0.0, 0.2), "validation": (0.2, 0.28)}
_WHOLE_NUMBER = re.compile(r"-?[0-9]+")
_SHOWN_NAMES = 5
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


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


@dataclass(frozen=True)
class Task:
    """A labelled data set.

    Attributes:
        name: the name in the catalogue.
        metric: a key of `metrics.METRICS`.
        classes: the names of the classes by index; None for a regression.
        train: the training split.
        validation: the development split, for early stopping.
        test: the test split.
    """

    name: str
    metric: str
    classes: tuple[str, ...] | None
    train: Examples
    validation: Examples
    test: Examples

    @property
    def num_labels(self) -> int:
        """The number of a head's outputs: one per class; 1 for a regression."""
        return len(self.classes) if self.classes else 1

    def score_outputs(self, outputs: np.ndarray, labels: np.ndarray) -> float:
        """The score, in points, of a head's outputs of shape (n, num_labels) for labels of shape (n,)."""
        return score(self.metric, labels, outputs.squeeze(-1) if self.classes is None else outputs.argmax(axis=-1))

    def baseline(self) -> float:
        """The test score, in points, of always predicting the train split's most frequent class, or its mean."""
        labels = self.train.labels
        prediction = labels.mean() if self.classes is None else np.bincount(labels).argmax()
        return score(self.metric, self.test.labels, np.full_like(self.test.labels, prediction))


@functools.lru_cache(maxsize=64)
def load_task(name: str, catalogues: tuple[str, ...] = ("packaged",), data_root: str = "") -> Task:
    """Read a task. The result is cached, so a process reads each task once.

    Args:
        name: the task's name.
        catalogues: names of shipped catalogues, or paths of TOML files.
        data_root: the folder that the catalogue's relative paths are relative to; empty: the catalogue's own folder.

    Raises:
        CatalogueError: the catalogue cannot be read or has no such task.
        DataError: the rows cannot be read, or are not a valid task.
    """
    catalogue = read_catalogues(catalogues, data_root)
    spec = catalogue[name]
    try:
        return build_task(name, spec, _read_splits(catalogue, name))
    except DataError as error:
        raise DataError(f"task '{name}' ({catalogue.sources[name]}): {error}", code=error.code) from None


def _read_splits(catalogue: Catalogue, name: str) -> dict[str, pd.DataFrame]:
    """The rows of the splits that a task has: of a data set of the Hub, of a folder, or of single files."""
    spec = catalogue[name]
    if spec.hub:
        hub_splits = {split: getattr(spec, split) for split in SPLITS} | {"train": spec.train or "train"}
        _require_distinct_splits(hub_splits)
        return {
            split: read_hub(spec.hub, spec.config, spec.revision, hub_split, spec.label)
            for split, hub_split in hub_splits.items()
            if hub_split
        }
    data_root = catalogue.data_roots[name]
    if spec.folder:
        folder = _resolve_path(spec.folder, data_root, spec)
        paths = {split: find_split_file(folder, split) for split in SPLITS}
        if paths["train"] is None:
            raise DataError(
                f"{folder}: there is no train split. Name its file train.jsonl, train.csv or similar.",
                code=ErrorCode.DATA_MISSING,
            )
    else:
        references = {split: getattr(spec, split) for split in SPLITS}
        paths = {split: _resolve_path(path, data_root, spec) if path else None for split, path in references.items()}
    _require_distinct_splits({split: path.resolve() if path else None for split, path in paths.items()})
    return {split: read_rows(path, spec.encoding_errors) for split, path in paths.items() if path}


def _require_distinct_splits(sources: Mapping[str, object]) -> None:
    """Reject a test or validation split that is the train split: its rows would be trained on."""
    for split in ("validation", "test"):
        if sources[split] and sources[split] == sources["train"]:
            raise DataError(
                f"'{sources[split]}' is both the train and the {split} split. Remove '{split}' from the catalogue: the "
                f"{split} split is then split off train, and no row is in both.",
                code=ErrorCode.SPLITS_OVERLAP,
            )


def _resolve_path(reference: str, data_root: Path | None, spec: TaskSpec) -> Path:
    if reference.startswith(PACKAGE):
        return package_path(reference, spec.requires)
    path = expand_user(reference)
    if not path.is_absolute() and data_root is None:
        raise DataError(
            f"'{reference}' is a relative path of a shipped catalogue. Give the folder of the data: --data-root, or "
            "data-root in [tasks] of a run or in [run.tasks] of an experiment.",
            code=ErrorCode.DATA_MISSING,
        )
    return path if path.is_absolute() else (data_root or Path()) / path


def build_task(name: str, spec: TaskSpec, splits: dict[str, pd.DataFrame]) -> Task:
    """Build a task from tables of rows. A missing validation or test split is split off train.

    Args:
        name: the task's name.
        spec: the columns, classes, metric and shard.
        splits: the rows by split; `train` is required.

    Raises:
        DataError: a column is missing, a split is empty, the label of a regression is not a number, there are fewer
            than two classes, or a class does not occur in train.
    """
    tables = {}
    for split, rows in splits.items():
        # An empty file has no columns, so it must not be reported as a missing column.
        tables[split] = rows if rows.empty else _select_columns(rows, spec, split)
        if tables[split].empty:
            raise DataError(
                f"the {split} split has no rows. Rows without a text or label are ignored.", code=ErrorCode.SPLIT_EMPTY
            )
    # All tasks of a sharded data set get the same splits, so the shards are taken last.
    for split in ("test", "validation"):
        if split not in tables:
            tables["train"], tables[split] = _split_off(tables["train"], *_HASH_BOUNDS[split], spec.is_regression)
    classes = None if spec.is_regression else _sorted_classes(tables)
    if spec.shard:
        tables["train"] = tables["train"][spec.shard - 1 :: spec.shards]
        if tables["train"].empty:
            raise DataError(
                f"there are fewer train rows than the {count(spec.shards, 'shard')}.", code=ErrorCode.SPLIT_EMPTY
            )
    return Task(name, spec.metric, classes, *(_to_examples(tables[split], classes) for split in SPLITS))


def _select_columns(rows: pd.DataFrame, spec: TaskSpec, split: str) -> pd.DataFrame:
    """The columns text, pair (of pair tasks) and label, as strings; incomplete rows are dropped."""
    labels = _string_column(rows, spec.label, split)
    if spec.labels:
        if any(labels) and not set(labels) & spec.labels.keys():
            found = sorted(set(filter(None, labels)))
            raise DataError(
                f"'labels' names {_quote(spec.labels)}, but no row of the {split} split has such a label. The labels "
                f"are: {_quote(found)}.",
                code=ErrorCode.LABELS_INVALID,
            )
        # An empty string marks the rows of other classes, which are dropped below.
        labels = [spec.labels.get(label, "") for label in labels]
    columns = {name: _text_column(rows, text, split) for name, text in zip(("text", "pair"), spec.text, strict=False)}
    table = pd.DataFrame({**columns, "label": labels}, dtype=object)
    return table[(table != "").all(axis=1)].reset_index(drop=True)


def _quote(names: Collection[str]) -> str:
    more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
    return ", ".join(f"'{name}'" for name in list(names)[:_SHOWN_NAMES]) + more


def _string_column(rows: pd.DataFrame, name: str, split: str) -> list[str]:
    """A column as strings; an empty cell becomes an empty string."""
    if name not in rows.columns:
        names = [str(column) for column in rows.columns]
        raise DataError(
            f"the {split} split has no column '{name}'.{did_you_mean(name, names)}", code=ErrorCode.COLUMN_MISSING
        )
    return [_to_string(value) for value in rows[name]]


def _text_column(rows: pd.DataFrame, text: str, split: str) -> list[str]:
    """A column, or a template that is filled with the columns that it names."""
    columns = _PLACEHOLDER.findall(text)
    if text in rows.columns or not columns:
        return _string_column(rows, text, split)
    values = [_string_column(rows, column, split) for column in columns]
    return [_fill(text, cells).strip() for cells in zip(*values, strict=True)]


def _fill(template: str, cells: Sequence[str]) -> str:
    """Fill a template in one pass, so that braces in a cell's own text are not replaced."""
    remaining = iter(cells)
    return _PLACEHOLDER.sub(lambda _: next(remaining), template)


def _to_string(value: object) -> str:
    """A cell as a string. 2.0 becomes "2", because pandas turns the integers of a column with empty cells to floats."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _split_off(train: pd.DataFrame, low: float, high: float, is_regression: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split the rows whose text hashes between two bounds off the train rows.

    Rows with equal texts are reduced to one first, so that no text is on both sides. All rows of a class never leave
    train, because the class could not be learned.

    Returns:
        The remaining train rows, and the rows that were split off.
    """
    text_columns = [column for column in ("text", "pair") if column in train.columns]
    train = train.drop_duplicates(subset=text_columns, ignore_index=True)
    hashes = np.array([_hash(row) for row in train[text_columns].itertuples(index=False)])
    is_split_off = (low <= hashes) & (hashes < high)
    if not is_split_off.any():  # with few rows, no hash may be between the bounds: take the next larger one
        is_split_off[np.argsort((hashes - low) % 1.0)[:1]] = True
    if not is_regression:
        is_split_off &= train["label"].isin(set(train["label"][~is_split_off])).to_numpy()
    if not is_split_off.any() or is_split_off.all():
        raise DataError(
            f"train has only {count(len(train), 'different text')}, which is too few to split off another split.",
            code=ErrorCode.SPLIT_EMPTY,
        )
    return train[~is_split_off].reset_index(drop=True), train[is_split_off].reset_index(drop=True)


def _hash(texts: Sequence[str]) -> float:
    """A number in [0, 1) that depends only on the texts."""
    digest = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _sorted_classes(tables: dict[str, pd.DataFrame]) -> tuple[str, ...]:
    """The classes of the train split, sorted as numbers if all of them are integers, else as text."""
    classes = set(tables["train"]["label"])
    for split in ("test", "validation"):
        if unknown := sorted(set(tables[split]["label"]) - classes):
            others = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            raise DataError(
                f"the label '{unknown[0]}'{others} occurs in the {split} split but not in train, so it cannot be "
                "learned. Add rows of it to train, or exclude it with 'labels' in the catalogue.",
                code=ErrorCode.LABELS_INVALID,
            )
    if len(classes) < 2:
        raise DataError(
            f"train has only one class, '{next(iter(classes))}', but a task needs at least two.",
            code=ErrorCode.LABELS_INVALID,
        )
    are_integers = all(_WHOLE_NUMBER.fullmatch(label) for label in classes)
    return tuple(sorted(classes, key=int if are_integers else None))


def _to_examples(table: pd.DataFrame, classes: tuple[str, ...] | None) -> Examples:
    labels = _to_numbers(table["label"]) if classes is None else _to_class_indices(table["label"], classes)
    pairs = table["pair"].tolist() if "pair" in table.columns else None
    return Examples(table["text"].tolist(), pairs, labels)


def _to_numbers(column: pd.Series) -> np.ndarray:
    try:
        labels = column.astype(float).to_numpy(np.float32)
    except ValueError as error:
        raise DataError(
            f"the label of a regression must be a number: {error}.", code=ErrorCode.LABELS_INVALID
        ) from None
    if not np.isfinite(labels).all():
        raise DataError("a label of the regression is infinite or not a number.", code=ErrorCode.LABELS_INVALID)
    return labels


def _to_class_indices(column: pd.Series, classes: tuple[str, ...]) -> np.ndarray:
    index = {name: i for i, name in enumerate(classes)}
    return column.map(index).to_numpy(np.int64)
