"""Catalogues of tasks: TOML files that say where labelled data lie and how to read them.

A catalogue holds one table `[tasks.NAME]` a task::

    [tasks.rte]
    hub = "nyu-mll/glue"                  # a data set of the Hugging Face Hub ...
    config = "rte"
    text = ["sentence1", "sentence2"]     # one or two columns, or templates such as "{word}: {sentence}"
    label = "label"
    test = "validation"                   # names of splits; without validation or test, they are carved

    [tasks.reviews]
    train = "reviews/train.csv"           # ... or local files (jsonl, csv, tsv, parquet, tab) ...
    labels = { "0" = "bad", "1" = "good" }  # renames classes; rows of other classes are left out

    [tasks.mail]
    folder = "mail"                       # ... or a folder with train.*, validation.* and test.*
    metric = "macro-f1"
    shards = 5                            # mail-1 to mail-5, with a fifth of the train rows each
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from coldfusion_fl.config.messages import did_you_mean
from coldfusion_fl.config.parsing import parse_table, read_toml
from coldfusion_fl.config.schema import Names, SettingsTable
from coldfusion_fl.data.metrics import METRICS, REGRESSION_METRICS
from coldfusion_fl.data.paths import resolve_from
from coldfusion_fl.errors import CatalogueError, SettingsError

SHIPPED = ("packaged", "paper36", "excerpts")
SPLITS = ("train", "validation", "test")


class TaskSpec(SettingsTable):
    """One task of a catalogue, as written there.

    Attributes:
        hub: id of a data set of the Hugging Face Hub, with its `config` and `revision`.
        folder: a folder with the files train.*, validation.* and test.*.
        train: the name of a split (of a Hub data set), or a path; likewise `validation` and `test`.
        text: one or two column names, or templates with column names in braces.
        label: the column of the label.
        labels: the classes to keep, by the label's value, and how to name them; empty: all, as they are.
        metric: a key of `metrics.METRICS`; `spearman` makes the task a regression.
        encoding_errors: `strict`, or `replace` to read text files whose bytes are not all UTF-8.
        requires: the distribution that a `package:` path needs.
        shards: the train rows are split evenly, and NAME-1 to NAME-shards are tasks with a shard each; the
            other splits are the same for all.
        shard: which part this one has; 0: all rows.
    """

    hub: str = ""
    config: str = ""
    revision: str = ""
    folder: str = ""
    train: str = ""
    validation: str = ""
    test: str = ""
    text: Names = ("text",)
    label: str = "label"
    labels: dict[str, str] = Field(default_factory=dict)
    metric: str = "accuracy"
    encoding_errors: Literal["strict", "replace"] = "strict"
    requires: str = ""
    shards: int = Field(1, ge=1)
    shard: int = Field(0, ge=0)

    @property
    def is_regression(self) -> bool:
        """Whether the label is a number to predict, not a class."""
        return self.metric in REGRESSION_METRICS


@dataclass(frozen=True)
class Catalogue:
    """Tasks by name.

    Attributes:
        specs: the tasks.
        homes: per task, the folder that its relative paths begin at; None where none is known.
        sources: per task, the catalogue it stands in, for messages.
    """

    specs: Mapping[str, TaskSpec]
    homes: Mapping[str, Path | None]
    sources: Mapping[str, str]

    def __getitem__(self, name: str) -> TaskSpec:
        """The task of that name.

        Raises:
            CatalogueError: no catalogue has it; the nearest name is given.
        """
        if name not in self.specs:
            where = ", ".join(sorted(set(self.sources.values())))
            raise CatalogueError(f"unknown task '{name}' (catalogue: {where}).{did_you_mean(name, self.specs)}")
        return self.specs[name]


def resolve_catalogues(home: Path, references: Sequence[str]) -> tuple[str, ...]:
    """The catalogues that a settings file names: shipped ones as they are, files from the file's own folder."""
    return tuple(ref if ref in SHIPPED else resolve_from(home, ref) for ref in references)


def read_catalogues(references: Sequence[str], data_root: str = "") -> Catalogue:
    """Read several catalogues into one; a later one overrides tasks of an earlier one.

    Args:
        references: names in `SHIPPED`, or paths of TOML files.
        data_root: where relative paths begin; empty: at the catalogue's own folder.

    Raises:
        CatalogueError: a catalogue cannot be read or a task in it is written wrongly.
    """
    specs: dict[str, TaskSpec] = {}
    homes: dict[str, Path | None] = {}
    sources: dict[str, str] = {}
    for reference in references:
        shipped = reference in SHIPPED
        path = _shipped(reference) if shipped else Path(reference)
        if not shipped and not path.exists():
            raise CatalogueError(
                f"there is no catalogue '{reference}': no such file, and the shipped ones are {', '.join(SHIPPED)}."
            )
        home = Path(data_root) if data_root else None if shipped else path.resolve().parent
        for name, spec in _tasks(path, reference).items():
            for own_name, own in _shards(name, spec).items():
                specs[own_name], homes[own_name], sources[own_name] = own, home, reference
    return Catalogue(specs, homes, sources)


def _shards(name: str, spec: TaskSpec) -> dict[str, TaskSpec]:
    """The task, or the tasks that share its rows."""
    if spec.shards == 1:
        return {name: spec}
    return {f"{name}-{shard}": spec.model_copy(update={"shard": shard}) for shard in range(1, spec.shards + 1)}


def _shipped(name: str) -> Path:
    return Path(str(resources.files("coldfusion_fl.data.catalogues") / f"{name}.toml"))


def _tasks(path: Path, reference: str) -> dict[str, TaskSpec]:
    table = read_toml(path, CatalogueError)
    tasks = table.pop("tasks", None)
    if table:
        raise CatalogueError(f"{reference}: unknown table '{next(iter(table))}'; tasks stand in [tasks.NAME].")
    if not isinstance(tasks, dict) or not tasks:
        raise CatalogueError(f"{reference}: it has no task; write one as [tasks.NAME].")
    return {name: _task(name, entry, reference) for name, entry in tasks.items()}


def _task(name: str, entry: Any, reference: str) -> TaskSpec:
    where = f"{reference}, task '{name}'"
    if not isinstance(entry, dict):
        raise CatalogueError(f"{where}: this must be a table, [tasks.{name}].")
    if isinstance(entry.get("text"), str):
        # A template may hold a comma: a text alone is one column, never a list of names.
        entry = entry | {"text": [entry["text"]]}
    try:
        spec = parse_table(TaskSpec, entry, where)
    except SettingsError as wrong:
        raise CatalogueError(str(wrong)) from None
    if (spec.hub and spec.folder) or not (spec.hub or spec.folder or spec.train):
        raise CatalogueError(f"{where}: give one of 'hub', 'folder' or 'train' (a file).")
    if spec.folder and any(getattr(spec, split) for split in SPLITS):
        raise CatalogueError(f"{where}: 'folder' finds the splits by their file names; leave out train and test.")
    if (spec.config or spec.revision) and not spec.hub:
        raise CatalogueError(f"{where}: 'config' and 'revision' belong to a 'hub' data set.")
    if len(spec.text) not in (1, 2):
        raise CatalogueError(f"{where}: 'text' takes one or two columns, but has {len(spec.text)}.")
    if spec.metric not in METRICS:
        raise CatalogueError(f"{where}: unknown metric '{spec.metric}'.{did_you_mean(spec.metric, METRICS)}")
    if spec.shard:
        raise CatalogueError(f"{where}: leave out 'shard'; 'shards' makes a task of each.")
    if spec.labels and spec.is_regression:
        raise CatalogueError(f"{where}: a regression ('{spec.metric}') has numbers, no 'labels'.")
    return spec
