"""Tables that are read before their columns are known."""

import pytest

from coldfusion_fl.data.catalogue import TaskSpec
from coldfusion_fl.data.inspection.sources import find_sources
from coldfusion_fl.data.inspection.table import read_table
from coldfusion_fl.errors import DataError, ErrorCode

ROWS = "\n".join(f"{number},the text {number},{'xy'[number % 2]}" for number in range(30))


@pytest.fixture
def table(tmp_path):
    """Writes files, and reads them as one source."""

    def read(**files):
        for name, text in files.items():
            (tmp_path / f"{name}.csv").write_text(text)
        is_split = any(name.startswith("train") for name in files)
        (source,) = find_sources([tmp_path] if is_split else [tmp_path / f"{name}.csv" for name in files])
        return read_table(source, {})

    return read


def test_the_columns_are_those_of_the_file(table):
    found = table(a=f"id,body,verdict\n{ROWS}\n")
    assert found.names == ("id", "body", "verdict")
    assert found.cells["verdict"][:3] == ["x", "y", "x"]
    assert found.columns[2].distinct == 2


def test_fields_of_nested_tables_are_columns(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": {"b": "one"}, "c": ["list"], "d": 1}\n' * 2)
    (source,) = find_sources([tmp_path / "a.jsonl"])
    assert read_table(source, {}).names == ("a.b", "d")


def test_splits_without_labels_are_found(table):
    header = "id,body,verdict\n"
    unlabelled = ROWS.replace(",x", ",-1").replace(",y", ",-1")
    found = table(train=header + ROWS, validation=header + unlabelled, test="id,body\n1,some text\n")
    assert set(found.splits_without("verdict")) == {"validation", "test"}


def test_splits_with_the_labels_of_train_are_used(table):
    header = "id,body,verdict\n"
    assert not table(train=header + ROWS, test=f"{header}1,some text,x\n").splits_without("verdict")


def test_the_keys_of_a_task(table, tmp_path):
    found = table(train=f"id;body;label\n{ROWS.replace(',', ';')}\n")
    keys = found.task(tmp_path / "out", {}, text=["body"], label="label", metric="accuracy", shards=1)
    assert keys == {"folder": "..", "text": ["body"], "delimiter": ";"}
    assert set(keys) <= set(TaskSpec.model_fields)


def test_without_a_split_the_files_are_named_one_by_one(table, tmp_path):
    header = "id,body,verdict\n"
    found = table(train=header + ROWS, test="id,body\n1,x\n")
    assert found.task(tmp_path, {"test": "it has none"}, label="verdict") == {"train": "train.csv", "label": "verdict"}


def test_shards_are_no_task_where_another_split_is_left_out(table, tmp_path):
    header = "id,body,verdict\n"
    found = table(**{"train-00000-of-00002": header + ROWS, "train-00001-of-00002": header + ROWS, "test": "id\n1\n"})
    assert found.task(tmp_path, {}) == {"folder": "."}
    with pytest.raises(DataError, match=r"train split is in 2 files.*Move the files of the test split"):
        found.task(tmp_path, {"test": "it has none"})


def test_missing_columns_are_named(table):
    found = table(a=f"id,body,verdict\n{ROWS}\n")
    found.require("--text", "{id}: {body}")
    with pytest.raises(DataError, match=r"'boddy' \(--text\)\. Did you mean 'body'\?") as error:
        found.require("--text", "boddy")
    assert error.value.code == ErrorCode.COLUMN_MISSING


@pytest.mark.parametrize("text", ["", "text,label\n"])
def test_a_table_without_rows(table, text):
    with pytest.raises(DataError):
        table(a=text)
