"""Reading labelled rows from local files, from installed packages and from the Hugging Face Hub."""

import bz2
import gzip
import json
import lzma
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from coldfusion_fl.errors import DataError, ErrorCode, first_line

_SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "valid", "dev"),
    "test": ("test",),
}
_SUFFIXES = (".jsonl", ".csv", ".tsv", ".tab", ".parquet")
_OPEN: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def read_rows(path: Path, encoding_errors: str = "strict") -> pd.DataFrame:
    """Read a table of rows from a file or folder.

    The suffix of a file decides its format: `.jsonl`, `.csv`, `.tsv`, `.parquet`, or `.tab` (of Orange, with three
    header lines). The text formats may also be compressed, with a second suffix `.gz`, `.bz2` or `.xz`. A folder must
    have one sub-folder per class with one `.txt` file per row; it gives the columns `text` and `label`.

    Args:
        path: the file or folder.
        encoding_errors: for bytes that are not UTF-8: `strict` rejects the file, `replace` replaces them by U+FFFD.

    Raises:
        DataError: the file does not exist, has an unknown format, is not UTF-8 or cannot be parsed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas only warns, and drops cells
            return _read(path, encoding_errors)
    except pd.errors.ParserWarning:
        raise DataError(
            f"{path}: its rows have more cells than the header has names. Name every column in the first line, and "
            "quote texts that contain the separator."
        ) from None
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from None
    except (ValueError, OSError, EOFError, lzma.LZMAError) as error:  # pandas and pyarrow raise ValueErrors
        raise DataError(f"{path}: it cannot be read: {first_line(error)}") from None


def _read(path: Path, errors: str) -> pd.DataFrame:
    if path.is_dir():
        return _class_folders(path, errors)
    if not path.is_file():
        raise DataError(
            f"{path}: this file does not exist. Relative paths start at the data root.", code=ErrorCode.DATA_MISSING
        )
    # Cells of a text file stay text: pandas would turn the label 01 into 1 and the text "NA" into a missing value.
    suffix = path.with_suffix("").suffix if path.suffix in _OPEN else path.suffix
    text: dict[str, Any] = {"dtype": str, "keep_default_na": False, "index_col": False, "encoding_errors": errors}
    match suffix:
        case ".jsonl":
            return _json_lines(path, errors)
        case ".csv":
            return pd.read_csv(path, **text)
        case ".tsv":
            return pd.read_csv(path, sep="\t", **text)
        case ".tab":
            return pd.read_csv(path, sep="\t", skiprows=[1, 2], **text)
        case ".parquet":
            return pd.read_parquet(path)
    raise DataError(f"{path}: the format '{suffix}' is not supported. The formats are {', '.join(_SUFFIXES)}.")


def _json_lines(path: Path, errors: str) -> pd.DataFrame:
    rows = []
    with _OPEN.get(path.suffix, open)(path, "rt", encoding="utf-8", errors=errors) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise DataError(f"{path}, line {number}: this is not JSON: {error.msg}.") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: a row must be a JSON object, {{...}}.")
            rows.append(row)
    return pd.DataFrame(rows, dtype=object)


def _class_folders(path: Path, errors: str) -> pd.DataFrame:
    files = sorted(path.glob("*/*.txt"))
    if not files:
        raise DataError(f"{path}: a folder of rows must have one sub-folder per class, with .txt files.")
    texts = []
    for file in files:
        try:
            texts.append(file.read_text(encoding="utf-8", errors=errors))
        except UnicodeDecodeError as error:
            raise _not_utf8(file, error) from None
    return pd.DataFrame({"text": texts, "label": [file.parent.name for file in files]}, dtype=object)


def _not_utf8(path: Path, error: UnicodeDecodeError) -> DataError:
    return DataError(
        f'{path}: byte {error.start} is not UTF-8. Save the file as UTF-8, or set encoding-errors = "replace" in the '
        "catalogue."
    )


def find_split_file(folder: Path, split: str) -> Path | None:
    """Find the file of a split in a folder, such as `train.jsonl`; None if there is none.

    Raises:
        DataError: the folder does not exist, or has two files for the split.
    """
    if not folder.is_dir():
        raise DataError(
            f"{folder}: this folder does not exist. Relative paths start at the data root.", code=ErrorCode.DATA_MISSING
        )
    found = [
        file
        for file in sorted(folder.iterdir())
        if file.name.split(".")[0] in _SPLIT_NAMES[split] and (set(file.suffixes) & set(_SUFFIXES))
    ]
    if len(found) > 1:
        names = " and ".join(file.name for file in found)
        raise DataError(f"{folder}: more than one file is named like the {split} split: {names}. Keep one of them.")
    return found[0] if found else None


def read_hub(hub: str, config: str, revision: str, split: str, label: str) -> pd.DataFrame:
    """Read one split of a data set of the Hugging Face Hub; class indices become class names.

    Args:
        hub: the id of the data set.
        config: its configuration; empty: the default one.
        revision: a branch, tag or commit; empty: the default branch.
        split: the name of the split, such as `train` or `train_r1+train_r2`.
        label: the column of the label.

    Raises:
        DataError: the Hub cannot be reached, or has no such data set, configuration or split.
    """
    import datasets

    source = f"data set '{hub}'" + (f" ({config})" if config else "")
    try:
        rows = datasets.load_dataset(hub, config or None, split=split, revision=revision or None)
    # The library raises exceptions of many types, including those of its HTTP client.
    except Exception as failure:
        raise DataError(
            f"{source}, split '{split}': loading it from the Hugging Face Hub failed: "
            f"{first_line(failure).rstrip('.')}. Offline, use local files (a task with 'folder' or 'train') or the "
            "tasks of the catalogue 'packaged'.",
            code=ErrorCode.DATA_MISSING,
        ) from None
    frame = rows.to_pandas()
    feature = rows.features.get(label)
    if isinstance(feature, datasets.ClassLabel):
        # The Hub uses -1 for a missing label.
        frame[label] = [feature.int2str(int(i)) if i is not None and i >= 0 else None for i in frame[label]]
    return frame
