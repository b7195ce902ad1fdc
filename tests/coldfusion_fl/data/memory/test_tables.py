"""Tasks of rows in memory, and as files."""

import logging

import datasets
import pandas as pd
import pytest

from coldfusion_fl.data.memory.task_files import CATALOGUE, format_task_files, write_task_files
from coldfusion_fl.data.task import Task, load_task
from coldfusion_fl.errors import CatalogueError, DataError, SettingsError

ROWS = [{"body": f"{'good' if i % 2 else 'bad'} film {i}", "stars": i % 2, "id": i} for i in range(100)]


def test_a_dataframe_and_a_list_of_dicts_are_the_same_task():
    one = Task.from_dataframe(ROWS, "films", text="body", label="stars")
    other = Task.from_dataframe(pd.DataFrame(ROWS), "films", text="body", label="stars")
    assert one.classes == ("0", "1")
    assert (one.train.texts, one.test.labels.tolist()) == (other.train.texts, other.test.labels.tolist())
    assert one.report.splits["test"].rows == len(one.test) > 10
    assert "100 rows" not in repr(one) and "films" in repr(one)


def test_labels_are_renamed_and_others_left_out():
    rows = [*ROWS, {"body": "no class", "stars": 9}]
    task = Task.from_dataframe(rows, "films", text="{id}: {body}", label="stars", labels={0: "bad", 1: "good"})
    assert task.classes == ("bad", "good")
    assert task.text == ("{id}: {body}",)
    assert "1 of other classes (9)" in "\n".join(task.describe())


def test_a_dataset_has_the_names_of_its_classes():
    columns = {"text": [f"text {i}" for i in range(60)], "label": [i % 3 for i in range(60)]}
    found = datasets.Dataset.from_dict(columns).cast_column("label", datasets.ClassLabel(names=["x", "y", "z"]))
    assert Task.from_dataframe(found, "h").classes == ("x", "y", "z")
    splits = Task.from_dataframe(datasets.DatasetDict(train=found, test=found), "h")
    assert len(splits.test) == 60


def test_numbers_are_a_regression():
    rows = [{"text": f"text {i}", "label": i / 7} for i in range(60)]
    assert Task.from_dataframe(rows, "r", metric="spearman").classes is None


def test_guesses_are_logged(caplog):
    table = pd.DataFrame(ROWS).rename(columns={"stars": "target"})
    with caplog.at_level(logging.WARNING, "coldfusion_fl"):
        task = Task.from_dataframe(table, "films")
    assert "films: the column 'target' is used as the label" in caplog.text
    assert "films: the column 'body' is used as the text" in caplog.text
    assert task.text == ("body",)


@pytest.mark.parametrize(
    ("given", "more", "kind", "message"),
    [
        (ROWS, {"label": "stars", "text": "boddy"}, DataError, "no column 'boddy'. Did you mean 'body'"),
        (ROWS, {}, DataError, "no column is named 'label'. Name it with label=. The columns are 'body', 'stars', 'id'"),
        ([{"a": "x", "b": "y", "label": 1}], {}, DataError, "no column is named 'text'. Name it with text="),
        ({"body": ["a"], "label": ["b"]}, {}, DataError, "with 'train' among them"),
        ({"train": ROWS, "unsupervised": ROWS}, {}, DataError, "unknown split 'unsupervised'"),
        (3, {}, DataError, "but are a int"),
        (["text"], {}, DataError, "but are a list"),
        ([], {}, DataError, "The columns are none"),
        (ROWS, {"text": "body", "label": "stars", "metric": "bleu"}, CatalogueError, "unknown metric 'bleu'"),
        (ROWS, {"text": ["body", "id", "stars"], "label": "stars"}, CatalogueError, "one or two columns"),
    ],
)
def test_a_mistake(given, more, kind, message):
    with pytest.raises(kind, match=message):
        Task.from_dataframe(given, "films", **more)


def test_a_task_needs_a_name():
    with pytest.raises(DataError, match="needs a name"):
        Task.from_dataframe(ROWS, "")


TASKS = {
    "template": lambda: Task.from_dataframe(ROWS, "t", text="{id}: {body}", label="stars", labels={0: "x", 1: "y"}),
    "label": lambda: Task.from_dataframe(ROWS, "t", text="body", label="stars"),
    "pairs": lambda: Task.from_dataframe(ROWS, "t", text=["body", "id"], label="stars"),
    "nested": lambda: Task.from_dataframe([{"a": {"b": row["body"]}, "label": row["id"]} for row in ROWS], "t",
                                          text="a.b", metric="spearman"),
    "odd-characters": lambda: Task.from_dataframe(
        [{"text": f" “{i}”\u2028\n\t\"x\", 'é' 🙂", "label": "ja, nein"[i % 2 :]} for i in range(50)], "t"
    ),
    "packaged": lambda: load_task("film_critics-2"),
    "pairs-of-labels": lambda: Task.from_dataframe(
        [{"label": f"a {i}", "class": str(i % 2)} for i in range(50)], "t", text="label", label="class"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TASKS)
def test_a_task_in_files_is_the_same_task(name, tmp_path):
    task = TASKS[name]()
    write_task_files(tmp_path / "run" / "tasks", format_task_files([task]))
    read = load_task(task.name, (str(tmp_path / "run" / "tasks" / CATALOGUE),))
    assert (read.classes, read.metric, read.text) == (task.classes, task.metric, task.text)
    for split in ("train", "validation", "test"):
        one, other = getattr(read, split), getattr(task, split)
        assert (one.texts, one.pairs, one.labels.tolist()) == (other.texts, other.pairs, other.labels.tolist())


def test_a_task_that_was_changed_is_not_written():
    import dataclasses

    task = Task.from_dataframe(ROWS, "films", text="body", label="stars")
    changed = dataclasses.replace(task, classes=("1", "0"))
    with pytest.raises(DataError, match="changed after it was made"):
        format_task_files([changed])


def test_names_are_file_names_and_different():
    task = Task.from_dataframe(ROWS, "../films", text="body", label="stars")
    with pytest.raises(DataError, match="letters, digits"):
        format_task_files([task])
    task = Task.from_dataframe(ROWS, "films", text="body", label="stars")
    with pytest.raises(SettingsError, match="two tasks have the name 'films'"):
        format_task_files([task, task])
