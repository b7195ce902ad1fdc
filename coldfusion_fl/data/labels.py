"""Labels as class indices, or as the numbers of a regression."""

import re
import unicodedata
from collections.abc import Mapping

import numpy as np
import pandas as pd

from coldfusion_fl.data.columns import quote_names, shorten
from coldfusion_fl.data.report import ReadReport
from coldfusion_fl.errors import DataError, ErrorCode, count

_WHOLE_NUMBER = re.compile(r"-?[0-9]+")
# So many classes, or fewer than two rows for each of more than a few, are rather texts or numbers.
_MANY_CLASSES = 1000
_FEW_CLASSES = 20


def sorted_classes(tables: Mapping[str, pd.DataFrame], report: ReadReport) -> tuple[str, ...]:
    """The classes of the train split, sorted as numbers if all of them are integers, else as text.

    Raises:
        DataError: there are fewer than two classes, or another split has a class that train lacks.
    """
    classes = set(tables["train"]["label"])
    for split in ("test", "validation"):
        if unknown := sorted(set(tables[split]["label"]) - classes):
            others = f" (and {len(unknown) - 1} more)" if len(unknown) > 1 else ""
            raise DataError(
                f"the label '{shorten(unknown[0])}'{others} occurs in the {split} split but not in train, so it cannot "
                f"be learned. The labels of train are {quote_names(sorted(classes))}. Add rows of it to train, or "
                "exclude it with 'labels' in the catalogue.",
                code=ErrorCode.LABELS_INVALID,
            )
    if len(classes) < 2:
        found = "".join(f" There is this too: {warning}." for warning in report.warnings)
        raise DataError(
            f"train has only one class, '{shorten(next(iter(classes)))}', but a task needs at least two.{found}",
            code=ErrorCode.LABELS_INVALID,
        )
    are_integers = all(_WHOLE_NUMBER.fullmatch(label) for label in classes)
    return tuple(sorted(classes, key=int if are_integers else None))


def check_classes(classes: tuple[str, ...], rows: int, report: ReadReport) -> None:
    """Warn of classes that differ only in their spelling, and of a label column that rather has texts or numbers.

    Args:
        classes: the names.
        rows: the number of train rows.
        report: receives the warnings.
    """
    alike: dict[str, list[str]] = {}
    for name in classes:
        alike.setdefault(_spelling(name), []).append(name)
    for names in alike.values():
        if len(names) > 1:
            # Names that look the same need their code points.
            shown = " and ".join(shorten(ascii(name)) for name in names)
            report.warnings.append(f"different classes that are spelt alike: {shown}; 'labels' can join them")
    if len(classes) > _MANY_CLASSES or (len(classes) > _FEW_CLASSES and 2 * len(classes) > rows):
        report.warnings.append(
            f"there are {len(classes)} classes in {count(rows, 'train row')}, such as {quote_names(classes[:2])}: is "
            "'label' the right column? For numbers, set metric = \"spearman\""
        )


def _spelling(name: str) -> str:
    """What names that look or mean the same have in common: `1` and `1.0`, `Good` and `good`, two ways to write é."""
    try:
        return str(float(name))
    except ValueError:
        return " ".join(unicodedata.normalize("NFKC", name).casefold().split())


def to_class_indices(column: pd.Series, classes: tuple[str, ...]) -> np.ndarray:
    """The index of each label's class, shape (n,), int64."""
    index = {name: i for i, name in enumerate(classes)}
    return column.map(index).to_numpy(np.int64)


def to_numbers(column: pd.Series, report: ReadReport) -> np.ndarray:
    """The labels of a regression as numbers, shape (n,), float32.

    Args:
        column: the labels.
        report: receives a warning if numbers that differ in the file are equal in float32.

    Raises:
        DataError: a label is not a finite number.
    """
    try:
        numbers = column.astype(float).to_numpy(np.float64)
    except ValueError as error:
        raise DataError(
            f"the label of a regression must be a number such as 3.5, without a unit or other signs: {error}.",
            code=ErrorCode.LABELS_INVALID,
        ) from None
    with np.errstate(over="ignore"):
        labels = numbers.astype(np.float32)
    if not np.isfinite(labels).all():
        raise DataError(
            "a label of the regression is infinite, above 3e38 or not a number.", code=ErrorCode.LABELS_INVALID
        )
    before, after = len(np.unique(numbers)), len(np.unique(labels))
    if after < before:
        report.warnings.append(
            f"{before} different labels are only {after} different numbers of single precision; subtract a constant"
        )
    return labels
