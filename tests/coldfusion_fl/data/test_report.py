"""What a task says about the rows that were read, and about its labels."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest

from coldfusion_fl.data.catalogue import TaskSpec
from coldfusion_fl.data.task import Examples, Task, build_task, load_task
from coldfusion_fl.errors import DataError, ErrorCode


def build(rows, **keys):
    return build_task("t", TaskSpec(train="t", **keys), {"train": pd.DataFrame(rows)})


def test_each_row_is_counted_once(tmp_path):
    rows = [{"text": f"t{i}", "label": "xyz"[i % 3]} for i in range(60)]
    rows += [{"text": "", "label": "x"}, {"text": "", "label": ""}, {"text": "a", "label": ""}, rows[0]]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "c.toml").write_text('[tasks.t]\ntrain = "train.jsonl"\nlabels = {x = "x", y = "why"}\nshards = 2\n')
    task = load_task("t-1", (str(tmp_path / "c.toml"),))
    train = task.report.splits["train"]
    assert {reason.name: number for reason, number in train.left_out.items()} == {
        "NO_TEXT": 2,
        "NO_LABEL": 1,
        "OTHER_CLASS": 20,
        "DUPLICATE": 1,
        "OTHER_SHARD": 14,
    }
    assert train.read == 64
    assert train.kept == len(task.train) + len(task.validation) + len(task.test)
    assert [task.report.splits[split].rows for split in ("train", "validation", "test")] == [
        len(part) for part in (task.train, task.validation, task.test)
    ]
    assert task.report.lines()[0].startswith("train: 64 rows read from train.jsonl, 38 left out (2 without text, ")
    assert "20 of other classes (z)" in task.report.lines()[0]


def test_rows_that_where_does_not_choose_are_counted_for_that_alone():
    rows = [{"text": f"t{i}", "label": "xyz"[i % 3], "site": "books"} for i in range(60)]
    rows += [{"text": "", "label": "z", "site": site} for site in ("films", "", "books")]
    train = build(rows, labels={"x": "x", "y": "y"}, where={"site": "books"}).report.splits["train"]
    assert {reason.name: number for reason, number in train.left_out.items() if number} == {
        "OTHER_VALUE": 2,
        "NO_TEXT": 1,
        "OTHER_CLASS": 20,
    }
    assert train.read == 63


def test_the_brief_report_has_only_what_may_need_attention():
    task = build([{"text": f"t{i}", "label": ["a", "A"][i % 2]} for i in range(60)])
    assert len(task.report.lines()) == 4
    assert [line[:8] for line in task.report.lines(brief=True)] == ["warning:"]


def test_the_counts_of_classes():
    task = build([{"text": f"t{i}", "label": "xyz"[i % 3]} for i in range(60)])
    assert {name: sum(numbers) for name, numbers in task.class_counts().items()} == {"x": 20, "y": 20, "z": 20}


@pytest.mark.parametrize(
    "names", [("caf\xe9", "cafe\u0301"), ("Good", "good"), ("a b", "a\xa0b"), ("1", "1.0"), ("01", "1")]
)
def test_classes_that_are_spelt_alike_stay_two_and_are_a_warning(names):
    task = build([{"text": f"t{i}", "label": (*names, "other")[i % 3]} for i in range(60)])
    assert len(task.classes) == 3
    assert all(ascii(name) in task.report.warnings[0] for name in names)


def test_a_second_header_is_a_warning():
    rows = [{"text": f"t{i}", "label": "xy"[i % 2]} for i in range(60)]
    assert "'label'" in build([*rows, {"text": "text", "label": "label"}]).report.warnings[0]


@pytest.mark.parametrize(("first", "warnings"), [(0, 0), (2020, 0), (1_600_000_000, 1)])
def test_numbers_that_single_precision_cannot_tell_apart_are_a_warning(first, warnings):
    task = build([{"text": f"t{i}", "label": first + i} for i in range(100)], metric="spearman")
    assert bool(task.report.warnings) is bool(warnings)


def test_a_column_of_texts_as_labels():
    rows = [{"text": f"t{i}", "label": f"a long text of its own, number {i % 40}" * 9} for i in range(60)]
    assert "40 classes" in build(rows).report.warnings[0]
    for row, i in zip(rows, range(60), strict=True):
        row["label"] = f"text {i}"
    with pytest.raises(DataError, match="'label' the right column") as error:
        build(rows)
    assert error.value.code == ErrorCode.LABELS_INVALID


def test_a_long_label_is_cut_in_a_message():
    train = pd.DataFrame({"text": ["a", "b", "c", "d"], "label": ["x", "y"] * 2})
    with pytest.raises(DataError) as error:
        build_task("t", TaskSpec(train="t"), {"train": train, "test": train.assign(label="long " * 99)})
    assert len(str(error.value)) < 300


def test_a_split_that_is_empty_says_why():
    with pytest.raises(DataError, match="3 without a label"):
        build([{"text": "a", "label": ""}] * 3)


def test_a_task_with_a_report_can_be_sent_to_another_process():
    task = build([{"text": f"t{i}", "label": "xy"[i % 2]} for i in range(60)])
    assert pickle.loads(pickle.dumps(task)).report == task.report
    empty = Examples(["a"], None, np.array([0]))
    assert Task("by hand", "accuracy", ("x", "y"), empty, empty, empty).report.lines() == []


def test_texts_with_several_labels_are_a_warning():
    rows = [{"text": f"t{i}", "label": "xy"[i % 2]} for i in range(40)]
    task = build([*rows, {"text": "t0", "label": "y"}, {"text": "t1", "label": "x"}, {"text": "t2", "label": "x"}])
    assert any("2 texts" in warning for warning in task.report.warnings)


def test_if_no_second_class_is_left_because_of_such_texts_the_error_says_so():
    texts = [f"t{i}" for i in range(40)]
    with pytest.raises(DataError, match="only one class.*40 texts"):
        build([{"text": text, "label": label} for label in ("bad", "good") for text in texts])
