"""Reading labelled rows: local files, files inside installed packages, and data sets of the Hub."""

import bz2
import gzip
import json
import lzma
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

from coldfusion_fl.errors import DataError, first_line

_SPLIT_NAMES = {
    "train": ("train",),
    "validation": ("validation", "valid", "dev"),
    "test": ("test",),
}
_SUFFIXES = (".jsonl", ".csv", ".tsv", ".tab", ".parquet")
_OPEN: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def read_rows(path: Path, encoding_errors: str = "strict") -> pd.DataFrame:
    """Read a table of rows.

    By its ending: `.jsonl`, `.csv`, `.tsv`, `.parquet`, or `.tab` (Orange's: three header lines), the text ones also
    with `.gz`, `.bz2` or `.xz` behind. A folder is read as one folder a class with a `.txt` file a row, into the
    columns `text` and `label`.

    Args:
        path: the file or folder.
        encoding_errors: what becomes of bytes that are not UTF-8: `strict` rejects them, `replace` puts U+FFFD.

    Raises:
        DataError: the file is not there, of another kind, not UTF-8 or broken.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas would cut the rows, and only warn
            return _read(path, encoding_errors)
    except pd.errors.ParserWarning:
        raise DataError(
            f"{path}: its rows have more cells than the header has names. Name every column in the first line, and put "
            "texts with separators in quotes."
        ) from None
    except UnicodeDecodeError as bad:
        raise _not_utf8(path, bad) from None
    except (ValueError, OSError, EOFError, lzma.LZMAError) as broken:  # pandas' and pyarrow's are ValueErrors
        raise DataError(f"{path}: it cannot be read: {first_line(broken)}") from None


def _read(path: Path, errors: str) -> pd.DataFrame:
    if path.is_dir():
        return _class_folders(path, errors)
    if not path.is_file():
        raise DataError(f"{path}: there is no such file. Relative paths begin at the data root.")
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
    raise DataError(f"{path}: files that end in '{suffix}' are not known; these are: {', '.join(_SUFFIXES)}.")


def _json_lines(path: Path, errors: str) -> pd.DataFrame:
    rows = []
    with _OPEN.get(path.suffix, open)(path, "rt", encoding="utf-8", errors=errors) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as bad:
                raise DataError(f"{path}, line {number}: this is not JSON: {bad.msg}.") from None
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: a row must be a JSON object, {{...}}.")
            rows.append(row)
    return pd.DataFrame(rows, dtype=object)


def _class_folders(path: Path, errors: str) -> pd.DataFrame:
    files = sorted(path.glob("*/*.txt"))
    if not files:
        raise DataError(f"{path}: a folder of rows needs one folder a class with .txt files in it.")
    texts = []
    for file in files:
        try:
            texts.append(file.read_text(encoding="utf-8", errors=errors))
        except UnicodeDecodeError as bad:
            raise _not_utf8(file, bad) from None
    return pd.DataFrame({"text": texts, "label": [file.parent.name for file in files]}, dtype=object)


def _not_utf8(path: Path, bad: UnicodeDecodeError) -> DataError:
    return DataError(
        f'{path}: byte {bad.start} is not UTF-8. Save the file as UTF-8, or write encoding-errors = "replace" in the '
        "catalogue."
    )


def split_file(folder: Path, split: str) -> Path | None:
    """The file of a split in a folder, such as `train.jsonl`; None where there is none.

    Raises:
        DataError: the folder is not there, or has two files for the split.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder. Relative paths begin at the data root.")
    found = [
        file
        for file in sorted(folder.iterdir())
        if file.name.split(".")[0] in _SPLIT_NAMES[split] and (set(file.suffixes) & set(_SUFFIXES))
    ]
    if len(found) > 1:
        raise DataError(f"{folder}: {' and '.join(f.name for f in found)} both look like the {split} split.")
    return found[0] if found else None


def read_hub(hub: str, config: str, revision: str, split: str, label: str) -> pd.DataFrame:
    """Read one split of a data set of the Hugging Face Hub; class indices become class names.

    Raises:
        DataError: the Hub cannot be reached, or has no such data set, configuration or split.
    """
    import datasets

    what = f"data set '{hub}'" + (f" ({config})" if config else "")
    try:
        rows = datasets.load_dataset(hub, config or None, split=split, revision=revision or None)
    # The library raises anything here, from its own errors to those of its HTTP client.
    except Exception as failure:
        raise DataError(
            f"{what}, split '{split}', cannot be had from the Hugging Face Hub: {first_line(failure)} Without a "
            "network, give local files instead (a task with 'folder' or 'train'), or take the tasks of the catalogue "
            "'packaged'."
        ) from None
    frame = rows.to_pandas()
    feature = rows.features.get(label)
    if isinstance(feature, datasets.ClassLabel):
        # The Hub writes -1 where a class is not given.
        frame[label] = [feature.int2str(int(i)) if i is not None and i >= 0 else None for i in frame[label]]
    return frame
