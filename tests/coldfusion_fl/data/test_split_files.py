"""The files of a folder: the names of splits, shards, and files that are not used."""

import pytest

from coldfusion_fl.data.task import load_task
from coldfusion_fl.errors import DataError, ErrorCode


@pytest.fixture
def read(tmp_path):
    """Reads a task from a folder with files of these names; each has rows of its own."""

    def read(*names, keys='folder = "f"', rows=None):
        for name in names:
            file = tmp_path / "f" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            lines = [f"{rows or name} {i},{'xy'[i % 2]}" for i in range(30)]
            file.write_text("\n".join(["text,label", *lines, ""]))
        (tmp_path / "c.toml").write_text(f"[tasks.t]\n{keys}")
        return load_task("t", (str(tmp_path / "c.toml"),))

    return read


@pytest.mark.parametrize("train", ["train.csv", "Train.CSV", "training.csv"])
@pytest.mark.parametrize("validation", ["validation.csv", "valid.csv", "dev.csv", "val.csv", "Val.csv"])
@pytest.mark.parametrize("test", ["test.csv", "Test.csv", "TESTING.csv", "eval.csv", "evaluation.csv"])
def test_the_names_of_splits(read, train, validation, test):
    task = read(train, validation, test)
    assert task.train.texts[0] == f"{train} 0"
    assert task.validation.texts[0] == f"{validation} 0"
    assert task.test.texts[0] == f"{test} 0"
    assert not task.report.unused


def test_the_older_names_come_first_and_the_others_are_reported(read):
    task = read("train.csv", "test.csv", "eval.csv", "dev_matched.csv", "README.md", ".hidden.csv", "info.json")
    assert task.test.texts[0] == "test.csv 0"
    assert task.report.unused == ["dev_matched.csv", "eval.csv"]


def test_shards_follow_each_other_in_their_order(read):
    task = read(*(f"train-{n:05}-of-00003.csv" for n in (2, 0, 1)), "test-00000-of-00001-0123abcd.csv", "dev.csv")
    assert [text.split(".")[0] for text in task.train.texts[::30]] == [f"train-{n:05}-of-00003" for n in range(3)]
    assert len(task.test) == 30
    assert task.report.splits["train"].read == 90


def test_a_missing_shard_is_an_error(read):
    with pytest.raises(DataError, match=r"train split has 3 shards.*0, 2") as error:
        read("train-00000-of-00003.csv", "train-00002-of-00003.csv")
    assert error.value.code == ErrorCode.DATA_MISSING


@pytest.mark.parametrize(
    "names", [("train.csv", "train.tsv"), ("train.csv", "Train.csv"), ("train.csv", "train-00000-of-00001.csv")]
)
def test_two_files_for_a_split_are_an_error(read, names):
    with pytest.raises(DataError, match="more than one file"):
        read(*names)


def test_a_folder_without_a_train_split_is_an_error_that_names_its_files(read):
    with pytest.raises(DataError, match="no train split.*my_train.csv") as error:
        read("my_train.csv")
    assert error.value.code == ErrorCode.DATA_MISSING


def test_splits_of_class_folders(tmp_path):
    for split in ("train", "test"):
        for i in range(20):
            file = tmp_path / "f" / split / ("neg", "pos")[i % 2] / f"{i}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{split} {i}")
    (tmp_path / "c.toml").write_text('[tasks.t]\nfolder = "f"')
    assert len(load_task("t", (str(tmp_path / "c.toml"),)).test) == 20


def test_files_beside_a_named_file_are_reported(read):
    task = read("train.csv", "test.csv", "dev.csv", "b.csv", keys='train = "f/train.csv"\nvalidation = "f/dev.csv"')
    assert task.report.unused == ["test.csv"]
    assert task.report.splits["test"].source == ""


def test_rows_of_two_splits_are_a_warning_with_their_counts(read):
    task = read("train.csv", "test.csv", rows="same")
    assert task.report.warnings == ["30 of 30 test rows have a text of train"]
