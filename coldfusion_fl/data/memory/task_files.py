"""Tasks in memory as files with a catalogue, so that the processes of a run can read them.

::

    tasks/
        catalogue.toml       one table for each task
        NAME/                train.jsonl, validation.jsonl and test.jsonl
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import tomli_w

from coldfusion_fl.atomic_files import atomic_write, disk_errors, remove
from coldfusion_fl.data.catalogue import SPLITS, TaskSpec
from coldfusion_fl.data.report import ReadReport, SplitReport
from coldfusion_fl.data.task import Examples, Task, build_task
from coldfusion_fl.errors import DataError, ErrorCode, RunFolderError, SettingsError

CATALOGUE = "catalogue.toml"
_HEADER = "# The tasks that this run was given in memory. Their rows are beside this file: keep them private.\n\n"
_NAME = re.compile(r"\w[\w.-]*")


def format_task_files(tasks: Sequence[Task]) -> dict[str, str]:
    """The files of tasks: their contents by path, relative to the folder.

    The columns of the texts keep their names, so that a classifier of such a task reads the same columns.

    Raises:
        SettingsError: two tasks have the same name.
        DataError: a name is no file name, or the rows of a task would not be read again as they are.
    """
    names = [task.name for task in tasks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise SettingsError(
            f"two tasks have the name '{twice[0]}'. Give each task a name of its own.", ErrorCode.SETTINGS_CONFLICT
        )
    files: dict[str, str] = {}
    entries: dict[str, dict[str, Any]] = {}
    for task in tasks:
        if not _NAME.fullmatch(task.name):
            raise DataError(
                f"task '{task.name}': a name in a run has letters, digits, '-', '_' and '.' alone, and begins with a "
                "letter or a digit."
            )
        rows = {split: _rows(task, getattr(task, split)) for split in SPLITS}
        _check_round_trip(task, rows)
        lines = {split: [json.dumps(row, ensure_ascii=False) for row in part] for split, part in rows.items()}
        files |= {f"{task.name}/{split}.jsonl": "\n".join(part) + "\n" for split, part in lines.items()}
        entries[task.name] = _entry(task)
    return {CATALOGUE: _HEADER + tomli_w.dumps({"tasks": entries}), **files}


def write_task_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write task files into a new folder that other users cannot read. It appears when it is complete.

    Raises:
        RunFolderError: the disk is full or cannot be written.
    """
    with disk_errors(folder.parent, left="No run was started."):
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder) as temporary:
            temporary.mkdir(mode=0o700)
            for path, content in files.items():
                (temporary / path).parent.mkdir(exist_ok=True)
                (temporary / path).write_text(content, encoding="utf-8", newline="")


def check_task_files(folder: Path, files: Mapping[str, str]) -> None:
    """Check that a folder has the same tasks: a run resumes with the rows that it began with.

    Raises:
        RunFolderError: a task differs; the message names it.
    """
    for path, content in files.items():
        try:
            same = (folder / path).read_bytes() == content.encode()
        except OSError:
            same = False
        if not same:
            what = f"the task '{path.partition('/')[0]}' has" if "/" in path else "the tasks have"
            raise RunFolderError(
                f"{folder.parent}: {what} other rows, classes or settings than when the run began. Resume it without "
                "tasks (Run.resume), or start a new run in another folder.",
                ErrorCode.RUN_CHANGED,
            )


def remove_task_files(folder: Path, *, with_parent: bool = False) -> None:
    """Remove the folder that `write_task_files` made, if it is there.

    Args:
        folder: the folder.
        with_parent: whether `write_task_files` made its parent too, which is removed if it is empty.
    """
    if (folder / CATALOGUE).is_file() and (folder / CATALOGUE).read_text("utf-8").startswith(_HEADER):
        remove(folder)
    if with_parent and folder.parent.is_dir() and not any(folder.parent.iterdir()):
        folder.parent.rmdir()


def _entry(task: Task) -> dict[str, Any]:
    label = _label_column(task)
    return {
        "folder": task.name,
        "text": list(task.text),
        **({} if label == "label" else {"label": label}),
        "metric": task.metric,
    }


def _label_column(task: Task) -> str:
    return "label" if "label" not in task.text else "label-of-task"


def _rows(task: Task, examples: Examples) -> list[dict[str, Any]]:
    classes = task.classes
    labels = examples.labels.tolist() if classes is None else [classes[index] for index in examples.labels]
    texts = [examples.texts, *([] if examples.pairs is None else [examples.pairs])]
    if len(texts) != len(task.text):
        raise DataError(f"task '{task.name}': it has {len(texts)} texts in each row, but names {len(task.text)}.")
    columns = (*task.text, _label_column(task))
    return [dict(zip(columns, cells, strict=True)) for cells in zip(*texts, labels, strict=True)]


def _check_round_trip(task: Task, rows: Mapping[str, list[dict[str, Any]]]) -> None:
    """Check that what is read of the files will be the same task."""
    label = _label_column(task)
    spec = TaskSpec(folder=task.name, text=task.text, label=label, metric=task.metric)
    report = ReadReport(splits={split: SplitReport("memory", len(part)) for split, part in rows.items()})
    try:
        again = build_task(task.name, spec, {s: pd.DataFrame(part, dtype=object) for s, part in rows.items()}, report)
    except DataError as error:
        raise DataError(f"task '{task.name}': {error}", code=error.code) from None
    if again.classes != task.classes or any(_differ(getattr(again, s), getattr(task, s)) for s in SPLITS):
        raise DataError(
            f"task '{task.name}': it was changed after it was made, so that its rows cannot be written as they are. "
            "Make the task again with Task.from_dataframe."
        )


def _differ(one: Examples, other: Examples) -> bool:
    return (one.texts, one.pairs, one.labels.tolist()) != (other.texts, other.pairs, other.labels.tolist())
