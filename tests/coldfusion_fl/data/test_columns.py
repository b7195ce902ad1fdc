"""Cells that are not texts, and characters that are no text."""

import datetime
import decimal

import datasets
import numpy as np
import pandas as pd
import pytest

from coldfusion_fl.data.catalogue import TaskSpec
from coldfusion_fl.data.report import LeftOut
from coldfusion_fl.data.task import build_task, load_task
from coldfusion_fl.errors import DataError, ErrorCode

ROWS = 60


def build(texts=None, labels=None, **keys):
    """A task of rows with text `t0`, `t1`, ... and the labels x and y; functions of the row's number change them."""
    rows = pd.DataFrame(
        {
            "text": pd.Series([texts(i) if texts else f"t{i}" for i in range(ROWS)], dtype=object),
            "label": pd.Series([labels(i) if labels else "xy"[i % 2] for i in range(ROWS)], dtype=object),
        }
    )
    return build_task("t", TaskSpec(train="t", **keys), {"train": rows})


def texts_of(task):
    return {text for part in (task.train, task.validation, task.test) for text in part.texts}


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_decoded(kind):
    assert "é 3" in texts_of(build(lambda i: kind(f"é {i}".encode())))
    assert "é 3" in texts_of(build(lambda i: kind(f"é {i}".encode("latin-1")), encoding="latin-1"))
    with pytest.raises(DataError, match=r"'text'.*UTF-8.*encoding"):
        build(lambda i: kind(f"é {i}".encode("latin-1")))


@pytest.mark.parametrize("cell", [["a", "b"], ["a"], ("a",), np.array(["a"]), {"a"}, []])
def test_lists_are_rejected(cell):
    with pytest.raises(DataError, match=r"'text' are lists"):
        build(texts=lambda _: cell)
    with pytest.raises(DataError, match=r"'label' are lists.*multi-label") as error:
        build(labels=lambda _: cell)
    assert error.value.code == ErrorCode.LABELS_INVALID


def test_tables_are_rejected_with_the_names_of_their_fields():
    with pytest.raises(DataError, match=r"'text'.*'text\.subject', 'text\.body'.*text = \"text\.subject\""):
        build(lambda i: {"subject": f"s{i}", "body": "b"})
    with pytest.raises(DataError, match=r"label = \"label\.id\""):
        build(labels=lambda i: {"id": i % 2})


def test_a_dot_names_a_nested_field():
    task = build(
        lambda i: {"head": {"subject": f"s{i}"}, "note.b": "n"},
        lambda i: {"id": i % 2},
        text=("{text.head.subject} {text.note.b}",),
        label="label.id",
    )
    assert "s3 n" in texts_of(task)
    assert task.classes == ("0", "1")
    with pytest.raises(DataError, match=r"'text\.haed'.*'text\.head'") as error:
        build(lambda i: {"head": f"s{i}"}, text=("text.haed",))
    assert error.value.code == ErrorCode.COLUMN_MISSING


def test_a_column_whose_name_has_a_dot_is_no_nested_field():
    rows = pd.DataFrame({"a.b": [f"t{i}" for i in range(ROWS)], "a": [{"b": "other"}] * ROWS, "label": [0, 1] * 30})
    assert "t3" in texts_of(build_task("t", TaskSpec(train="t", text=("a.b",)), {"train": rows}))


def test_a_row_without_the_field_is_left_out():
    task = build(lambda i: {"a": f"t{i}"} if i % 6 else None, text=("text.a",))
    assert task.report.splits["train"].left_out[LeftOut.NO_TEXT] == 10


def test_fields_of_parquet_and_of_the_hub(tmp_path, monkeypatch):
    rows = {"body": [{"subject": f"s{i}"} for i in range(ROWS)], "y": [{"label": i % 2} for i in range(ROWS)]}
    features = datasets.Features(
        {"body": {"subject": datasets.Value("string")}, "y": {"label": datasets.ClassLabel(names=["no", "yes"])}}
    )
    (tmp_path / "hub" / "data").mkdir(parents=True)
    file = tmp_path / "hub" / "data" / "train-00000-of-00001.parquet"
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(file))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    keys = 'text = "body.subject"\nlabel = "y.label"'
    (tmp_path / "c.toml").write_text(
        f'[tasks.file]\ntrain = "{file}"\n{keys}\n[tasks.hub]\nhub = "{tmp_path / "hub"}"\n{keys}'
    )
    hub, local = (load_task(name, (str(tmp_path / "c.toml"),)) for name in ("hub", "file"))
    assert texts_of(hub) == texts_of(local) == {f"s{i}" for i in range(ROWS)}
    assert (hub.classes, local.classes) == (("no", "yes"), ("0", "1"))


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ((True, False), ("False", "True")),
        ((np.bool_(True), np.bool_(False)), ("False", "True")),
        ((np.float32(2), np.float32(11)), ("2", "11")),
        ((1.5, 2.5), ("1.5", "2.5")),
        ((np.int64(3), 4.0), ("3", "4")),
        ((decimal.Decimal("1.50"), decimal.Decimal(2)), ("1.50", "2")),
        ((datetime.date(2020, 1, 2), datetime.date(2021, 1, 2)), ("2020-01-02", "2021-01-02")),
        ((pd.Timestamp("2020-01-02"), pd.Timestamp("2021-01-02")), ("2020-01-02 00:00:00", "2021-01-02 00:00:00")),
    ],
)
def test_values_of_other_types_are_classes(labels, classes):
    assert build(labels=lambda i: labels[i % 2]).classes == classes


@pytest.mark.parametrize("nothing", [None, pd.NA, pd.NaT, float("nan"), np.float32("nan"), "", " ", "\u200b"])
def test_a_row_without_a_text_or_label_is_left_out(nothing):
    task = build(labels=lambda i: nothing if i % 6 == 0 else "xy"[i % 2])
    assert task.classes == ("x", "y")
    assert task.report.splits["train"].left_out[LeftOut.NO_LABEL] == 10
    task = build(texts=lambda i: nothing if i % 6 == 0 else f"t{i}")
    assert task.report.splits["train"].left_out[LeftOut.NO_TEXT] == 10


def test_categorical_columns():
    rows = pd.DataFrame({"text": [f"t{i}" for i in range(ROWS)], "label": pd.Categorical(["x", "y"] * 30)})
    assert build_task("t", TaskSpec(train="t"), {"train": rows}).classes == ("x", "y")


def test_half_of_a_character_is_replaced_and_counted(base):
    task = build(lambda i: f"t{i} \ud83d" if i < 3 else f"t{i} \U0001f600")
    assert {"t0 \ufffd", "t3 \U0001f600"} < texts_of(task)
    assert "3 texts" in task.report.notes[0]
    assert base.tokenizer(task.train.texts)
    with pytest.raises(DataError, match=r"\\ud83d"):
        build(labels=lambda i: "\ud83d")


def test_spaces_around_labels_are_removed_and_counted():
    task = build(labels=lambda i: ["x", " x", "y"][i % 3])
    assert task.classes == ("x", "y")
    assert "20 labels" in task.report.notes[0]


@pytest.mark.parametrize("texts", ["a\x00b {i}", "\x1b[31m{i}", "\u202e{i}", "\u200b{i}"])
def test_control_characters_beside_others_stay_in_the_text(texts, base):
    task = build(lambda i: texts.format(i=i))
    assert texts.format(i=3) in texts_of(task)
    assert base.tokenizer(task.train.texts)
