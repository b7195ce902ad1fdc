"""The tables of a source, read before it is known which columns are the text and the label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from coldfusion_fl.config.messages import did_you_mean
from coldfusion_fl.data.catalogue import PLACEHOLDER, SPLITS, TaskSpec
from coldfusion_fl.data.columns import read_cells
from coldfusion_fl.data.inspection.column_choice import Column, describe_columns
from coldfusion_fl.data.inspection.file_format import FileFormat, guess_format
from coldfusion_fl.data.inspection.sources import Source, relative_to
from coldfusion_fl.data.report import ReadReport
from coldfusion_fl.data.rows import read_errors, read_rows
from coldfusion_fl.errors import DataError, ErrorCode

# Columns are judged by as many rows of a large table.
_SAMPLE_ROWS = 20_000
# No column has this name: a label that is not known yet.
_UNKNOWN = "\0"


@dataclass(frozen=True)
class Table:
    """The rows of a source.

    Attributes:
        source: where they are.
        format: how the files are written.
        cells: the cells of the train split by column, as stripped strings; of a large table, a part of the rows.
        columns: the facts of each column.
        others: likewise the cells of the validation and the test split, where the source has one.
    """

    source: Source
    format: FileFormat
    cells: Mapping[str, list[str]]
    columns: tuple[Column, ...]
    others: Mapping[str, Mapping[str, list[str]]]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns that can be the text or the label."""
        return tuple(column.name for column in self.columns)

    def require(self, option: str, *wanted: str) -> None:
        """Check that columns are there, or those of templates.

        Raises:
            DataError: one is missing; the message suggests the most similar one.
        """
        for name in wanted:
            parts = [] if name in self.names else PLACEHOLDER.findall(name) or [name]
            for part in parts:
                if part not in self.names:
                    raise DataError(
                        f"{self.source.shown}: there is no column '{part}' ({option}).{did_you_mean(part, self.names)}",
                        code=ErrorCode.COLUMN_MISSING,
                    )

    def splits_without(self, label: str) -> dict[str, str]:
        """The validation and test splits whose rows have no label that can be scored, each with the reason.

        Files of competitions have no labels in the test split, or one value that is no class.
        """
        known = set(filter(None, self.cells.get(label, ())))
        found = {}
        for split, cells in self.others.items():
            labels = set(filter(None, cells.get(label, ())))
            if label not in cells:
                found[split] = f"it has no column '{label}'"
            elif not labels:
                found[split] = f"its column '{label}' is empty"
            elif len(labels) == 1 and not labels & known:
                found[split] = f"its column '{label}' has a single value, which is not in the train split"
        return found

    def task(self, home: Path, left_out: Mapping[str, str], **keys: Any) -> dict[str, Any]:
        """The keys of the task in a catalogue.

        Args:
            home: the folder of the catalogue, which paths are relative to.
            left_out: the splits that must not be used.
            keys: the columns, the metric and the like; those with the catalogue's default are left out.

        Raises:
            DataError: a split has several files, and another one is left out, so that the folder cannot be named.
        """
        if self.source.folder and not left_out:
            places = {"folder": relative_to(home, self.source.folder)}
        else:
            used = {
                split: self.source.paths[split]
                for split in SPLITS
                if split in self.source.paths and split not in left_out
            }
            for split, paths in used.items():
                self._check_one_file(split, paths, left_out)
            places = {split: relative_to(home, paths[0]) for split, paths in used.items()}
        needed = {key: value for key, value in keys.items() if not _is_default(key, value)}
        return {**places, **needed, **self.format.keys}

    def _check_one_file(self, split: str, paths: Sequence[Path], left_out: Mapping[str, str]) -> None:
        if len(paths) > 1:
            others = " and ".join(f"the {name} split is not used ({reason})" for name, reason in left_out.items())
            names = " and ".join(f"the {name} split" for name in left_out)
            raise DataError(
                f"{self.source.shown}: the {split} split is in {len(paths)} files, which a catalogue can read only "
                f"with all splits of their folder, but {others}. Move the files of {names} out of the folder, or join "
                f"those of the {split} split."
            )


def read_table(source: Source, given: Mapping[str, str], label: str = "") -> Table:
    """Read all rows of a source.

    Args:
        source: where they are.
        given: the keys `encoding` and `delimiter` that the user has decided.
        label: the column of the label, if it is known: it may decide what quotes mean.

    Raises:
        DataError: a file cannot be read, or has no rows.
    """
    train = source.paths["train"]
    with read_errors(train[0]):
        form = guess_format(train[0], dict(given))
    report = ReadReport()
    keys = dict(form.keys)
    if form.delimiter:
        # The columns of the text and the label are not known yet, so the file must not be searched for them.
        keys |= {"delimiter": form.delimiter, "text": form.columns}
    spec = TaskSpec(train="-", **{"label": label or _UNKNOWN, **keys})
    cells = {split: read_cells(_sample(read_rows(paths, spec, report)), spec) for split, paths in source.paths.items()}
    found = describe_columns(cells["train"])
    if form.columns:  # pandas renames a column whose name is there twice
        found = [column for column in found if column.name in form.columns]
    if not any(column.filled for column in found):
        raise DataError(f"{source.shown}: the table has no rows.", code=ErrorCode.SPLIT_EMPTY)
    others = {split: columns for split, columns in cells.items() if split != "train"}
    return Table(source, form, cells["train"], tuple(found), others)


def _sample(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.iloc[:: max(1, len(rows) // _SAMPLE_ROWS)]


def _is_default(key: str, value: Any) -> bool:
    default = TaskSpec.model_fields[key].get_default(call_default_factory=True)
    return bool((tuple(value) if isinstance(value, list) else value) == default)
