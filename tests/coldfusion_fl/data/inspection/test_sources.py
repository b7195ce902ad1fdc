"""The tables that a user names, as the sources of tasks."""

import pytest

from coldfusion_fl.data.inspection.sources import find_sources, find_unused, relative_to
from coldfusion_fl.errors import DataError, ErrorCode


@pytest.fixture
def make(tmp_path):
    """Creates empty files, and returns the folder."""

    def create(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("")
        return tmp_path

    return create


def found(*paths):
    return {source.name: sorted(source.paths) for source in find_sources(paths)}


def test_each_file_is_a_task(make):
    folder = make("a b.csv", "c.jsonl.gz", "d.parquet")
    assert found(folder / "a b.csv", folder / "c.jsonl.gz", folder / "d.parquet") == {
        "a_b": ["train"],
        "c": ["train"],
        "d": ["train"],
    }


def test_a_file_that_is_named_twice_is_one_task(make):
    folder = make("a.csv")
    assert found(folder / "a.csv", folder / "." / "a.csv") == {"a": ["train"]}


def test_files_that_are_named_like_splits_are_one_task_of_their_folder(make):
    folder = make("mail/test.csv", "mail/train.csv", "mail/dev.csv", "mail/extra.csv")
    paths = [folder / "mail" / f"{name}.csv" for name in ("test", "train", "dev", "extra")]
    assert found(*paths) == {"mail": ["test", "train", "validation"], "extra": ["train"]}


def test_a_split_without_train_rows_is_a_table_like_any_other(make):
    folder = make("test.csv")
    assert found(folder / "test.csv") == {"test": ["train"]}


def test_a_folder_with_a_train_split_is_one_task(make):
    folder = make("mail/train-00000-of-00002.parquet", "mail/train-00001-of-00002.parquet", "mail/test.csv")
    (source,) = find_sources([folder / "mail"])
    assert source.folder == folder / "mail"
    assert len(source.paths["train"]) == 2


def test_a_folder_of_tables_and_folders_has_a_task_for_each(make):
    folder = make("x/b.csv", "x/a/train.jsonl", "x/a/test.jsonl", "x/.hidden.csv", "x/README.txt", "x/manifest.json")
    assert found(folder / "x") == {"a": ["test", "train"], "b": ["train"]}
    assert [table.name for table in find_unused([folder / "x"])] == ["README.txt", "manifest.json"]


def test_json_and_txt_files_count_where_nothing_else_is(make):
    folder = make("x/b.json", "x/c.txt")
    assert found(folder / "x") == {"b": ["train"], "c": ["train"]}
    assert not find_unused([folder / "x", folder / "x" / "b.json"])


def test_a_folder_of_classes_is_one_task(make):
    folder = make("x/good/1.txt", "x/bad/2.txt")
    assert found(folder / "x") == {"x": ["train"]}


def test_equal_names_get_numbers(make):
    folder = make("a/r.csv", "b/r.csv")
    assert found(folder / "a/r.csv", folder / "b/r.csv") == {"r": ["train"], "r_2": ["train"]}


def test_all_bad_paths_are_named_at_once(make):
    folder = make("good.csv", "sheet.xlsx", "empty/readme.md")
    with pytest.raises(DataError) as error:
        find_sources([folder / "good.csv", folder / "sheet.xlsx", folder / "none.csv", folder / "empty"])
    lines = str(error.value).splitlines()
    assert len(lines) == 3
    assert ".xlsx" in lines[0]
    assert "none.csv" in lines[1]
    assert "readme.md" in lines[2]
    assert error.value.code == ErrorCode.DATA_UNREADABLE


def test_paths_are_relative_to_the_folder_of_the_catalogue(tmp_path):
    assert relative_to(tmp_path / "out", tmp_path / "data" / "a.csv") == "../data/a.csv"
    assert relative_to(tmp_path, tmp_path / "~me.csv") == "./~me.csv"
