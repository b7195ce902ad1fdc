"""A task: labelled texts in three splits, with what is needed to learn and to score them."""

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
from coldfusion_fl.data.rows import read_hub, read_rows, split_file
from coldfusion_fl.errors import DataError

# Carving goes by a hash of a row's text: every run and every machine tests on the same rows, and a text that two tasks
# share is a test row of both or of neither, so that no contributor trains on what another one tests.
_CARVE = {"test": (0.0, 0.2), "validation": (0.2, 0.28)}
_WHOLE_NUMBER = re.compile(r"-?[0-9]+")
_MOST_NAMES = 5
_PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class Examples:
    """Rows of one split.

    Attributes:
        texts: n texts.
        pairs: n second texts of a pair task, else None.
        labels: shape (n,): class indices (int64), or numbers (float32) of a regression.
    """

    texts: list[str]
    pairs: list[str] | None
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, rows: np.ndarray) -> "Examples":
        """The rows of these indices, in their order."""
        pairs = None if self.pairs is None else [self.pairs[i] for i in rows]
        return Examples([self.texts[i] for i in rows], pairs, self.labels[rows])

    def draw(self, most: int, seed: Sequence[int]) -> "Examples":
        """At most so many rows, drawn without replacement by a seed; 0 means all, in a drawn order."""
        order = np.random.default_rng(list(seed)).permutation(len(self))
        return self.take(order[:most] if most else order)


@dataclass(frozen=True)
class Task:
    """A labelled data set.

    Attributes:
        name: as in its catalogue.
        metric: a key of `metrics.METRICS`.
        classes: names of the classes by index; None for a regression.
        train: the split to learn from; likewise `validation` (the development set) and `test`.
    """

    name: str
    metric: str
    classes: tuple[str, ...] | None
    train: Examples
    validation: Examples
    test: Examples

    @property
    def num_labels(self) -> int:
        """Outputs of a head: one a class; 1 for a regression."""
        return len(self.classes) if self.classes else 1

    def score_outputs(self, outputs: np.ndarray, truth: np.ndarray) -> float:
        """The score, in points, of a head's outputs of shape (n, num_labels) against labels of shape (n,)."""
        return score(self.metric, truth, outputs.squeeze(-1) if self.classes is None else outputs.argmax(axis=-1))

    def baseline(self) -> float:
        """The test score, in points, of always answering the train split's most frequent class, or its mean."""
        learnt = self.train.labels
        answer = learnt.mean() if self.classes is None else np.bincount(learnt).argmax()
        return score(self.metric, self.test.labels, np.full_like(self.test.labels, answer))


@functools.lru_cache(maxsize=64)
def load_task(name: str, catalogues: tuple[str, ...] = ("packaged",), data_root: str = "") -> Task:
    """Read a task; a process reads each one once.

    Args:
        name: the task's name.
        catalogues: names of shipped catalogues, or paths of TOML files.
        data_root: where the catalogue's relative paths begin; empty: at its own folder.

    Raises:
        CatalogueError: the catalogue cannot be read or has no such task.
        DataError: the rows cannot be read, or do not make a task.
    """
    catalogue = read_catalogues(catalogues, data_root)
    spec = catalogue[name]
    try:
        return build_task(name, spec, _read_splits(catalogue, name))
    except DataError as wrong:
        raise DataError(f"task '{name}' ({catalogue.sources[name]}): {wrong}") from None


def _read_splits(catalogue: Catalogue, name: str) -> dict[str, pd.DataFrame]:
    spec = catalogue[name]
    if spec.hub:
        names = {split: getattr(spec, split) for split in SPLITS} | {"train": spec.train or "train"}
        _check_apart(names)
        return {
            split: read_hub(spec.hub, spec.config, spec.revision, there, spec.label)
            for split, there in names.items()
            if there
        }
    home = catalogue.homes[name]
    if spec.folder:
        folder = _place(spec.folder, home, spec)
        paths = {split: split_file(folder, split) for split in SPLITS}
        if paths["train"] is None:
            raise DataError(f"{folder}: there is no train split; name a file train.jsonl, train.csv or the like.")
    else:
        written = {split: getattr(spec, split) for split in SPLITS}
        paths = {split: _place(path, home, spec) if path else None for split, path in written.items()}
    _check_apart({split: path.resolve() if path else None for split, path in paths.items()})
    return {split: read_rows(path, spec.encoding_errors) for split, path in paths.items() if path}


def _check_apart(places: Mapping[str, object]) -> None:
    """No split may be learnt from and tested on at once."""
    for split in ("validation", "test"):
        if places[split] and places[split] == places["train"]:
            raise DataError(
                f"'{places[split]}' is the train split too. Leave '{split}' out of the catalogue: it is carved out of "
                "train, with no row in both."
            )


def _place(reference: str, home: Path | None, spec: TaskSpec) -> Path:
    if reference.startswith(PACKAGE):
        return package_path(reference, spec.requires)
    path = expand_user(reference)
    if not path.is_absolute() and home is None:
        raise DataError(
            f"'{reference}' is a path of your own: say where it begins, with --data-root, or data-root in [tasks] of a "
            "run, [run.tasks] of an experiment."
        )
    return path if path.is_absolute() else (home or Path()) / path


def build_task(name: str, spec: TaskSpec, splits: dict[str, pd.DataFrame]) -> Task:
    """Make a task of tables of rows; a validation or test split that is not there is carved out of train.

    Raises:
        DataError: a column is missing, a split is empty, a label is no number, there are fewer than two classes, or
            a class occurs in the test split only.
    """
    tables = {}
    for split, rows in splits.items():
        # Rows without a text or label do not count, and a file without rows has no columns to miss.
        tables[split] = rows if rows.empty else _columns(rows, spec, split)
        if tables[split].empty:
            raise DataError(f"the {split} split is empty (rows without a text or label do not count).")
    for split in ("test", "validation"):
        if split not in tables:
            tables["train"], tables[split] = _carve(tables["train"], *_CARVE[split], spec.is_regression)
    classes = None if spec.is_regression else _classes(tables)
    if spec.shard:
        tables["train"] = tables["train"][spec.shard - 1 :: spec.shards]
        if tables["train"].empty:
            raise DataError(f"there are fewer train rows than the {spec.shards} shards.")
    return Task(name, spec.metric, classes, *(_examples(tables[split], classes) for split in SPLITS))


def _columns(rows: pd.DataFrame, spec: TaskSpec, split: str) -> pd.DataFrame:
    """The columns text, pair (of pair tasks) and label, as texts; incomplete rows are left out."""
    labels = _column(rows, spec.label, split)
    if spec.labels:
        if any(labels) and not set(labels) & spec.labels.keys():
            there = sorted(set(filter(None, labels)))
            raise DataError(
                f"'labels' names {_some(spec.labels)}, and no row of the {split} split has such a label. There are: "
                f"{_some(there)}."
            )
        labels = [spec.labels.get(label, "") for label in labels]
    columns = {name: _text(rows, source, split) for name, source in zip(("text", "pair"), spec.text, strict=False)}
    table = pd.DataFrame({**columns, "label": labels}, dtype=object)
    return table[(table != "").all(axis=1)].reset_index(drop=True)


def _some(names: Collection[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(f"'{name}'" for name in list(names)[:_MOST_NAMES]) + more


def _column(rows: pd.DataFrame, name: str, split: str) -> list[str]:
    """A column as texts, empty where a cell is."""
    if name not in rows.columns:
        names = [str(column) for column in rows.columns]
        raise DataError(f"the {split} split has no column '{name}'.{did_you_mean(name, names)}")
    return [_as_text(value) for value in rows[name]]


def _text(rows: pd.DataFrame, source: str, split: str) -> list[str]:
    """A column, or a template with its columns filled in."""
    columns = _PLACEHOLDER.findall(source)
    if source in rows.columns or not columns:
        return _column(rows, source, split)
    values = [_column(rows, column, split) for column in columns]
    return [_fill(source, row).strip() for row in zip(*values, strict=True)]


def _fill(template: str, cells: Sequence[str]) -> str:
    """Fill a template in one pass, so that a brace in a row's own text stays what it is."""
    left = iter(cells)
    return _PLACEHOLDER.sub(lambda _: next(left), template)


def _as_text(value: object) -> str:
    """A cell as text. 2.0 is written 2: where a cell is empty, pandas turns whole numbers to floats."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _carve(train: pd.DataFrame, low: float, high: float, is_regression: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Set the rows aside whose text hashes between two bounds, never one of two equal texts nor a class's only rows."""
    texts = [column for column in ("text", "pair") if column in train.columns]
    train = train.drop_duplicates(subset=texts, ignore_index=True)
    place = np.array([_hash(row) for row in train[texts].itertuples(index=False)])
    atomic_write = (low <= place) & (place < high)
    if not atomic_write.any():  # so few rows that none fell between: the one that comes next
        atomic_write[np.argsort((place - low) % 1.0)[:1]] = True
    if not is_regression:
        atomic_write &= train["label"].isin(set(train["label"][~atomic_write])).to_numpy()
    if not atomic_write.any() or atomic_write.all():
        raise DataError(f"with {len(train)} different texts, train is too small to carve a split out of it.")
    return train[~atomic_write].reset_index(drop=True), train[atomic_write].reset_index(drop=True)


def _hash(texts: Sequence[str]) -> float:
    """A number in [0, 1) that depends on the texts alone."""
    digest = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) / 2**64


def _classes(tables: dict[str, pd.DataFrame]) -> tuple[str, ...]:
    learnt = set(tables["train"]["label"])
    for split in ("test", "validation"):
        if strange := sorted(set(tables[split]["label"]) - learnt):
            others = f" (and {len(strange) - 1} more)" if len(strange) > 1 else ""
            raise DataError(
                f"the label '{strange[0]}'{others} occurs in the {split} split but never in train, so it cannot be "
                "learnt. Add rows of it to train, or leave it out with 'labels' in the catalogue."
            )
    if len(learnt) < 2:
        raise DataError(f"train has only one class, '{next(iter(learnt))}'; a task needs two or more.")
    numbers = all(_WHOLE_NUMBER.fullmatch(label) for label in learnt)
    return tuple(sorted(learnt, key=int if numbers else None))


def _examples(table: pd.DataFrame, classes: tuple[str, ...] | None) -> Examples:
    labels = _numbers(table["label"]) if classes is None else _indices(table["label"], classes)
    pairs = table["pair"].tolist() if "pair" in table.columns else None
    return Examples(table["text"].tolist(), pairs, labels)


def _numbers(column: pd.Series) -> np.ndarray:
    try:
        labels = column.astype(float).to_numpy(np.float32)
    except ValueError as bad:
        raise DataError(f"a regression's label must be a number: {bad}.") from None
    if not np.isfinite(labels).all():
        raise DataError("a regression's label is infinite or not a number.")
    return labels


def _indices(column: pd.Series, classes: tuple[str, ...]) -> np.ndarray:
    index = {name: i for i, name in enumerate(classes)}
    return column.map(index).to_numpy(np.int64)
