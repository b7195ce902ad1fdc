"""Reading labelled rows from local files, from installed packages and from the Hugging Face Hub."""

import contextlib
import io
import json
import lzma
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from coldfusion_fl.config.messages import did_you_mean
from coldfusion_fl.data.catalogue import SPLITS, Catalogue, TaskSpec
from coldfusion_fl.data.decoding import OPENERS, read_text
from coldfusion_fl.data.delimited import DELIMITERS, read_delimited
from coldfusion_fl.data.paths import PACKAGE, expand_user, package_path
from coldfusion_fl.data.report import ReadReport, SplitReport
from coldfusion_fl.data.split_files import find_split_files, unused_beside
from coldfusion_fl.errors import DataError, ErrorCode, first_line
from coldfusion_fl.hub import datasets_from_cache, explain_failure

if TYPE_CHECKING:
    import datasets

_JSON = (".jsonl", ".ndjson", ".json")
_SHOWN_NAMES = 20
SUFFIXES = (*_JSON, *DELIMITERS, ".parquet")


def format_suffix(path: Path) -> str:
    """The suffix that decides a file's format, in lower case: the last one that is not of a compression."""
    suffix = path.with_suffix("").suffix if path.suffix.lower() in OPENERS else path.suffix
    return suffix.lower()


def read_splits(catalogue: Catalogue, name: str, report: ReadReport) -> dict[str, pd.DataFrame]:
    """The rows of the splits that a task has: of a data set of the Hub, of a folder, or of single files.

    Args:
        catalogue: the catalogue that has the task.
        name: the task's name.
        report: receives what was read.

    Raises:
        DataError: the rows cannot be read, or a split is another one's file.
    """
    spec = catalogue[name]
    if spec.hub:
        hub_splits = {split: getattr(spec, split) for split in SPLITS} | {"train": spec.train or "train"}
        _require_distinct_splits(hub_splits)
        sources = {split: f"split '{hub_split}'" for split, hub_split in hub_splits.items() if hub_split}
        tables = read_hub(spec, {split: hub_splits[split] for split in sources})
    else:
        paths = _find_paths(spec, catalogue.data_roots[name], report)
        sources = {split: _describe_paths(files) for split, files in paths.items()}
        tables = {split: read_rows(files, spec, report) for split, files in paths.items()}
    report.splits |= {split: SplitReport(sources[split], len(rows)) for split, rows in tables.items()}
    return tables


def _find_paths(spec: TaskSpec, data_root: Path | None, report: ReadReport) -> dict[str, list[Path]]:
    """The files or folders of each split; a split that is not there is missing."""
    if spec.folder:
        paths, report.unused = find_split_files(_resolve_path(spec.folder, data_root, spec))
    else:
        references = {split: getattr(spec, split) for split in SPLITS}
        paths = {split: [_resolve_path(path, data_root, spec)] for split, path in references.items() if path}
        report.unused = unused_beside(
            [path for files in paths.values() for path in files], [split for split in SPLITS if split not in paths]
        )
    _require_distinct_splits(
        {split: ", ".join(str(path.resolve()) for path in paths.get(split, [])) for split in SPLITS}
    )
    return paths


def _describe_paths(paths: Sequence[Path]) -> str:
    return paths[0].name if len(paths) == 1 else f"{paths[0].name} to {paths[-1].name} ({len(paths)} files)"


def _require_distinct_splits(sources: Mapping[str, str]) -> None:
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


def read_rows(paths: Sequence[Path], spec: TaskSpec, report: ReadReport) -> pd.DataFrame:
    """Read a table of rows from a file or folder, or from the shards of one split.

    The suffix of a file decides its format: `.jsonl`, `.ndjson` or `.json` (a row per line, or one list), `.csv`,
    `.tsv`, `.txt`, `.parquet`, or `.tab` (with or without Orange's three header lines). The text formats may also be
    compressed, with a second suffix `.gz`, `.bz2` or `.xz`. A folder must have one sub-folder per class with one
    `.txt` file per row; it gives the columns `text` and `label`.

    Args:
        paths: the file or folder; or several files, whose rows follow each other.
        spec: the keys of the catalogue that say how files are read.
        report: receives notes on what the files decided.

    Raises:
        DataError: a file does not exist, has an unknown format or encoding, or cannot be parsed.
    """
    tables = [_read_one(path, spec, report) for path in paths]
    return tables[0] if len(tables) == 1 else pd.concat(tables, ignore_index=True)


def _read_one(path: Path, spec: TaskSpec, report: ReadReport) -> pd.DataFrame:
    with read_errors(path):
        return _read(path, spec, report)


@contextlib.contextmanager
def read_errors(path: Path) -> Iterator[None]:
    """Turn an exception of a reader in the block into an error that names the file.

    Raises:
        DataError: the file cannot be read, or is damaged.
    """
    try:
        yield
    # pandas and pyarrow raise ValueErrors
    except (ValueError, OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise DataError(f"{path}: it cannot be read: {first_line(error)}") from None


def _read(path: Path, spec: TaskSpec, report: ReadReport) -> pd.DataFrame:
    if path.is_dir():
        return _class_folders(path, spec, report)
    if not path.is_file():
        raise DataError(
            f"{path}: this file does not exist. Relative paths start at the data root.", code=ErrorCode.DATA_MISSING
        )
    suffix = format_suffix(path)
    if suffix in DELIMITERS:
        return read_delimited(path, read_text(path, spec, report), spec, report, suffix)
    if spec.delimiter or spec.header or spec.quoting != "auto":
        raise DataError(
            f"{path}: 'delimiter', 'quoting' and 'header' are valid only for {', '.join(DELIMITERS)}. Remove them."
        )
    if suffix in _JSON:
        return _json_rows(path, read_text(path, spec, report))
    if suffix == ".parquet":
        return pd.read_parquet(path)
    raise DataError(f"{path}: the format '{suffix}' is not supported. The formats are {', '.join(SUFFIXES)}.")


def _json_rows(path: Path, text: str) -> pd.DataFrame:
    """A JSON object per line; or, in a `.json` file, one list of objects."""
    rows: list[Any] = []
    if format_suffix(path) == ".json" and text.lstrip().startswith("["):
        rows = _parse_json(text, str(path))
        if not all(isinstance(row, dict) for row in rows):
            raise DataError(f"{path}: each row in the list must be a JSON object, {{...}}.")
        return pd.DataFrame(rows, dtype=object)
    # Only line ends separate rows: a text may have other separators, such as U+2028.
    for number, line in enumerate(re.split(r"\r\n|\n|\r", text), start=1):
        if not line.strip():
            continue
        row = _parse_json(line, f"{path}, line {number}")
        if not isinstance(row, dict):
            raise DataError(
                f"{path}, line {number}: a row must be a JSON object, {{...}}. One list of rows is a .json file."
            )
        rows.append(row)
    return pd.DataFrame(rows, dtype=object)


def _parse_json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: this is not JSON: {error.msg}.") from None
    except RecursionError:
        raise DataError(f"{where}: this JSON is nested too deeply.") from None


def _class_folders(path: Path, spec: TaskSpec, report: ReadReport) -> pd.DataFrame:
    files = sorted(path.glob("*/*.txt"))
    if not files:
        raise DataError(
            f"{path}: a folder of rows must have one sub-folder per class, with .txt files. A "
            "folder with a train.* file is named with 'folder', not with 'train'."
        )
    texts = [io.StringIO(read_text(file, spec, report), newline=None).read() for file in files]
    return pd.DataFrame({"text": texts, "label": [file.parent.name for file in files]}, dtype=object)


def read_hub(spec: TaskSpec, splits: Mapping[str, str]) -> dict[str, pd.DataFrame]:
    """Read splits of a data set of the Hugging Face Hub; class indices become class names.

    Args:
        spec: a task with `hub`, and its `config`, `revision` and `label`.
        splits: the names of the data set's splits, such as `train` or `train_r1+train_r2`, by split of the task.

    Returns:
        The rows by split of the task.

    Raises:
        DataError: the Hub cannot be reached, or has no such data set, configuration or split, or the data set must not
            be read.
    """
    import datasets

    try:
        with datasets_from_cache():
            # One call for all splits: each call asks the Hub anew whether its cache is up to date.
            parts = datasets.load_dataset(
                spec.hub, spec.config or None, split=list(splits.values()), revision=spec.revision or None
            )
    # The library raises exceptions of many types, including those of its HTTP client.
    except Exception as failure:
        reason, code = _explain_hub(spec, splits, failure)
        source = f"data set '{spec.hub}'" + (f" ({spec.config})" if spec.config else "")
        raise DataError(f"{source} of the Hugging Face Hub: {reason}", code=code or ErrorCode.DATA_MISSING) from None
    return {split: dataset_table(rows, spec.label) for split, rows in zip(splits, parts, strict=True)}


def dataset_table(rows: "datasets.Dataset", label: str) -> pd.DataFrame:
    """The rows of a data set in the library `datasets`; class indices of the label become class names."""
    import datasets

    if label not in rows.features:
        rows = rows.flatten()  # the fields of a table become columns, such as `annotation.label`
    frame = rows.to_pandas()
    feature = rows.features.get(label)
    if isinstance(feature, datasets.ClassLabel):
        # The Hub uses -1 for a missing label.
        frame[label] = [feature.int2str(int(i)) if i is not None and i >= 0 else None for i in frame[label]]
    return frame


def _explain_hub(spec: TaskSpec, splits: Mapping[str, str], failure: Exception) -> tuple[str, ErrorCode | None]:
    """The reason of a failure: first what the catalogue names wrongly, then what is the matter with the data set."""
    # The library raises a ValueError for a configuration or split that the data set does not have.
    reason = _wrong_name(spec, splits) if isinstance(failure, ValueError) else ""
    return (reason, None) if reason else explain_failure("dataset", spec.hub, spec.revision, failure)


def _wrong_name(spec: TaskSpec, splits: Mapping[str, str]) -> str:
    """A sentence on a configuration or split that does not exist; empty if all do, or it cannot be found out."""
    import datasets

    revision = spec.revision or None
    try:
        with datasets_from_cache():
            configs = datasets.get_dataset_config_names(spec.hub, revision=revision)
            config = spec.config or datasets.get_dataset_default_config_name(spec.hub, revision=revision)
            known = datasets.get_dataset_split_names(spec.hub, config, revision=revision) if config in configs else []
    except Exception:
        return ""
    if not config:
        return f'Name one of its configurations in the task, such as config = "{configs[0]}". It has {_list(configs)}.'
    if config not in configs:
        return f"It has no configuration '{config}'.{did_you_mean(config, configs)}"
    # A split may be a sum of slices, such as `train[:80%]+extra`.
    named = [part.partition("[")[0].strip() for split in splits.values() for part in split.split("+")]
    missing = next((name for name in named if name not in (*known, "all")), "")
    return f"It has no split '{missing}'. Its splits are {_list(known)}." if missing else ""


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN_NAMES])
    return f"{shown} and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else shown
