"""Splits that a task lacks are split off its train rows, and rows that two splits share."""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from coldfusion_fl.data.report import LeftOut, ReadReport, SplitReport
from coldfusion_fl.errors import DataError, ErrorCode, count

# Bounds of a hash of each row's text, in [0, 1). The rows between them are split off train if the split is missing, so
# every run and every machine uses the same rows. A text that two tasks share is a test row of both or of neither, so
# that no contributor trains on a text that another one tests on.
_HASH_BOUNDS = {"test": (0.0, 0.2), "validation": (0.2, 0.28)}


def complete_splits(tables: dict[str, pd.DataFrame], report: ReadReport, *, is_regression: bool) -> None:
    """Split the test and validation split off train, in place, where a task lacks them.

    Args:
        tables: columns text, pair (of pair tasks) and label, by split.
        report: receives the number of rows that share their text with another row.
        is_regression: whether the labels are numbers.

    Raises:
        DataError: train has too few rows for another split.
    """
    for split in ("test", "validation"):
        if split not in tables:
            before = len(tables["train"])
            tables["train"], tables[split] = _split_off(tables["train"], *_HASH_BOUNDS[split], is_regression)
            duplicates = before - len(tables["train"]) - len(tables[split])
            report.splits["train"].left_out[LeftOut.DUPLICATE] += duplicates
            report.splits[split] = SplitReport()


def warn_of_overlaps(tables: Mapping[str, pd.DataFrame], report: ReadReport) -> None:
    """Warn of rows of the other splits whose text is in train too: their score is that of rows that were trained on."""
    seen = set(_keys(tables["train"]))
    for split in sorted(tables.keys() - {"train"}):
        shared = sum(key in seen for key in _keys(tables[split]))
        if shared:
            report.warnings.append(f"{shared} of {count(len(tables[split]), f'{split} row')} have a text of train")


def warn_of_contradictions(train: pd.DataFrame, report: ReadReport) -> None:
    """Warn of texts with several labels; where another split is split off train, only the first one is kept."""
    labels = train.groupby(_text_columns(train))["label"].nunique()
    if contradictory := int((labels > 1).sum()):
        report.warnings.append(f"more than one label: {count(contradictory, 'text')} of train")


def _keys(table: pd.DataFrame) -> list[tuple[str, ...]]:
    return list(table[_text_columns(table)].itertuples(index=False, name=None))


def _text_columns(table: pd.DataFrame) -> list[str]:
    return [column for column in ("text", "pair") if column in table.columns]


def _split_off(train: pd.DataFrame, low: float, high: float, is_regression: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split the rows whose text hashes between two bounds off the train rows.

    Rows with equal texts are reduced to one first, so that no text is on both sides. All rows of a class never leave
    train, because the class could not be learned.

    Returns:
        The remaining train rows, and the rows that were split off.
    """
    train = train.drop_duplicates(subset=_text_columns(train), ignore_index=True)
    hashes = np.array([_hash(row) for row in _keys(train)])
    is_split_off = (low <= hashes) & (hashes < high)
    if not is_split_off.any():  # with few rows, no hash may be between the bounds: take the next larger one
        is_split_off[np.argsort((hashes - low) % 1.0)[:1]] = True
    if not is_regression:
        is_split_off &= train["label"].isin(set(train["label"][~is_split_off])).to_numpy()
    if not is_split_off.any() or is_split_off.all():
        raise _too_few(train, is_regression)
    return train[~is_split_off].reset_index(drop=True), train[is_split_off].reset_index(drop=True)


def _too_few(train: pd.DataFrame, is_regression: bool) -> DataError:
    if not is_regression and len(train) > 2 and train["label"].is_unique:
        return DataError(
            f"each of the {len(train)} train rows has a class of its own, so no other split can be split off. Is "
            "'label' the right column? For numbers, set metric = \"spearman\".",
            code=ErrorCode.LABELS_INVALID,
        )
    return DataError(
        f"train has only {count(len(train), 'different text')}, which is too few to split off another split.",
        code=ErrorCode.SPLIT_EMPTY,
    )


def _hash(texts: Sequence[str]) -> float:
    """A number in [0, 1) that depends only on the texts."""
    digest = hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8]) / 2**64
