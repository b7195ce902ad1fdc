"""`coldfusion init`: two files that work, and nothing written where something is wrong."""

import csv
import io
import sys
import tomllib
from types import SimpleNamespace

import pytest

from coldfusion_fl.cli.init.drafts import Draft
from coldfusion_fl.cli.init.files import choose_examples
from coldfusion_fl.cli.main import main
from coldfusion_fl.config.parsing import read_settings
from coldfusion_fl.config.settings import FinetuneSettings
from coldfusion_fl.data.catalogue import read_catalogues
from coldfusion_fl.data.task import load_task

SECRET = "a secret text"


def rows(number=60, label=lambda i: ("bad", "good")[i % 2]):
    return [(f"{SECRET} {i} of somebody", label(i)) for i in range(number)]


@pytest.fixture
def write(tmp_path):
    """Writes a table in csv format."""

    def to(name, header=("body", "verdict"), table=None, encoding="utf-8", **dialect):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", newline="", encoding=encoding) as opened:
            csv.writer(opened, **dialect).writerows([header, *(table or rows())] if header else table or rows())
        return file

    return to


@pytest.fixture
def init(coldfusion, tiny_base):
    """Calls `coldfusion init` with the tiny base."""

    def call(*words):
        return coldfusion("init", *words, "--base", tiny_base)

    return call


def files(folder):
    return (folder / "tasks.toml").read_text("utf-8"), (folder / "run.toml").read_text("utf-8")


@pytest.mark.parametrize(
    ("numbers", "examples", "remark"),
    [
        ((60, 90), 0, "all rows: the largest contributor has "),
        ((60, 700), 384, "'t0' has fewer rows, which are all used"),
        ((60, 70, 700), 384, "'t0', 't1' have fewer rows, and use them all"),
        ((700, 710), 384, ""),
    ],
)
def test_the_rows_of_a_contribution_are_those_that_the_tables_have(init, write, tmp_path, numbers, examples, remark):
    tables = [write(f"t{place}.csv", table=rows(number)) for place, number in enumerate(numbers)]
    code, out, err = init(*tables, "--skip-base")
    assert code == 0, err
    assert read_settings(tmp_path / "run.toml").finetune.examples == examples
    [line] = [line for line in files(tmp_path)[1].splitlines() if line.startswith("examples = ")]
    assert line.startswith(f"examples = {examples}" + (f"  # {remark}" if remark else ""))
    assert (f"Training rows of a contribution: examples = {examples} ({remark}" in out) == bool(remark)


@pytest.mark.parametrize(
    ("rows_of", "examples", "remark"),
    [
        ({"a": 384, "b": 384}, 384, ""),
        ({"a-1": 385, "a-2": 384}, 384, ""),
        ({"a-1": 384, "a-2": 383}, 384, "'a-2' has fewer rows, which are all used"),
        ({"a": 383, "b": 9}, 0, "all rows: the largest contributor has 383; with many more, 384 is a good number"),
        (
            {f"t{number}": 9 for number in range(8)} | {"u": 400},
            384,
            "'t0', 't1', 't2', 't3', 't4' and 3 more have fewer rows, and use them all",
        ),
    ],
)
def test_the_rows_of_a_contribution_and_who_has_fewer(rows_of, examples, remark):
    assert choose_examples(rows_of) == (examples, remark)


@pytest.mark.parametrize("number", [768, 769])
def test_the_rows_of_each_shard_are_counted(number):
    task = SimpleNamespace(train=range(number))
    draft = Draft("a", {}, task, ("a-1", "a-2"), task)
    assert draft.rows == {"a-1": number - 384, "a-2": 384}


def test_two_tables_become_two_contributors(init, coldfusion, write, tmp_path, tiny_base):
    numbers = [(text, i * 0.37) for i, (text, _) in enumerate(rows())]
    code, out, err = init(write("reviews.csv"), write("tickets.csv", ("message", "hours"), numbers))
    assert code == 0, err
    settings = read_settings(tmp_path / "run.toml")
    assert settings.tasks.seen == ("reviews", "tickets")
    assert settings.contributors_per_round == settings.min_contributions == 2
    assert settings.base == str(tiny_base)
    specs = read_catalogues([str(tmp_path / "tasks.toml")]).specs
    assert (specs["reviews"].text, specs["reviews"].label, specs["reviews"].metric) == (
        ("body",),
        "verdict",
        "accuracy",
    )
    assert (specs["tickets"].text, specs["tickets"].label, specs["tickets"].metric) == (
        ("message",),
        "hours",
        "spearman",
    )
    for fact in ("60 rows read from reviews.csv", "bad: 30, good: 30", "words of a text: median 6", "tokens of a text"):
        assert fact in out
    assert "of training and evaluation on this machine" in out
    assert "GiB of memory each" in out
    code, out, err = coldfusion("tasks", "reviews,tickets", "--catalogue", tmp_path / "tasks.toml")
    assert code == 0, err


def test_the_files_have_each_setting_with_its_description_and_nothing_of_the_rows(init, write, tmp_path):
    init(write("reviews.csv"))
    catalogue, run = files(tmp_path)
    assert SECRET not in catalogue + run
    assert FinetuneSettings.model_fields["examples"].description in run
    for text in (catalogue, run):
        lines = text.splitlines()
        for number, line in enumerate(lines):
            if " = " in line and not line.startswith("#"):
                assert lines[number - 1].startswith("#"), line
    assert "on this machine" in run


def test_the_limits_of_a_label_of_numbers_stay_out_of_the_files(init, write, tmp_path):
    init(write("prices.csv", ("body", "price"), [(text, 9000.5 + i) for i, (text, _) in enumerate(rows())]))
    assert "9000.5" not in "".join(files(tmp_path))


def test_one_table_is_one_contributor_or_several_shards(init, write, tmp_path):
    code, out, _ = init(write("reviews.csv"))
    assert code == 0
    assert "--shards" in out
    settings = read_settings(tmp_path / "run.toml")
    assert (settings.contributors_per_round, settings.min_contributions) == (1, 1)
    code, out, _ = init(tmp_path / "reviews.csv", "--shards", "3", "--out", tmp_path / "sharded")
    assert code == 0
    assert read_settings(tmp_path / "sharded" / "run.toml").tasks.seen == ("reviews-1", "reviews-2", "reviews-3")
    whole, part = (
        load_task(name, (str(folder / "tasks.toml"),))
        for name, folder in (("reviews", tmp_path), ("reviews-3", tmp_path / "sharded"))
    )
    assert len(part.train) == len(whole.train) // 3
    code, _, err = init(tmp_path / "reviews.csv", "--shards", "100", "--out", tmp_path / "more")
    assert code == 2
    assert "reviews.csv" in err
    assert not (tmp_path / "more").exists()


def test_how_a_file_is_written_is_found_and_said(init, write, tmp_path):
    french = [(f"déjà {text}; {i}\nà", label) for i, (text, label) in enumerate(rows())]
    write("a/french.csv", ("avis", "note"), french, "cp1252", delimiter=";")
    write("a/wide.csv", encoding="utf-16")
    write("a/bare.csv", header=None)
    code, out, err = init(tmp_path / "a", "--out", tmp_path / "new" / "out")
    assert code == 0, err
    catalogues = (str(tmp_path / "new" / "out" / "tasks.toml"),)
    assert load_task("french", catalogues).train.texts[0].startswith("déjà a secret")
    assert load_task("wide", catalogues).classes == ("bad", "good")
    assert load_task("bare", catalogues).classes == ("bad", "good")
    assert "guess: the encoding is cp1252" in out
    assert "guess: the delimiter is ';'" in out
    assert "no header row" in out
    assert 'train = "../../a/french.csv"' in files(tmp_path / "new" / "out")[0]


def test_a_folder_of_splits_is_one_task_and_a_split_without_labels_is_left_out(init, write, tmp_path):
    write("mail/train.csv")
    write("mail/dev.csv", table=[(f"other {text}", label) for text, label in rows(20)])
    write("mail/test.csv", ("body",), [(f"test {i}",) for i in range(9)])
    code, out, err = init(tmp_path / "mail")
    assert code == 0, err
    assert "the test split is not used: it has no column 'verdict'" in out
    spec = read_catalogues([str(tmp_path / "tasks.toml")]).specs["mail"]
    assert (spec.folder, spec.train, spec.validation, spec.test) == ("", "mail/train.csv", "mail/dev.csv", "")


def test_the_disk_space_is_stated_whatever_the_path_is(init, write, tmp_path):
    code, _, err = init(write("a. b/mail.csv"), "--out", tmp_path / "c. d")
    assert code == 0, err
    assert "# Disk space: It needs " in files(tmp_path / "c. d")[1]


def test_pairs_and_templates(init, write, tmp_path):
    table = [(f"{text} one", f"{text} two", label) for text, label in rows()]
    write("pairs.csv", ("premise", "hypothesis", "label"), table)
    code, _, err = init(tmp_path / "pairs.csv")
    assert code == 0, err
    assert read_catalogues([str(tmp_path / "tasks.toml")]).specs["pairs"].text == ("premise", "hypothesis")
    code, _, err = init(tmp_path / "pairs.csv", "--text", "{premise}: {hypothesis}", "--force")
    assert code == 0, err
    assert load_task("pairs", (str(tmp_path / "tasks.toml"),)).train.texts[0].endswith("two")


def test_each_table_takes_the_first_column_that_it_has(init, write, tmp_path):
    write("a.csv", ("one", "two", "x", "y"), [(t, f"{t}!", label, label) for t, label in rows()])
    write("b.csv", ("eins", "zwei", "x", "y"), [(t, f"{t}!", label, label) for t, label in rows()])
    code, _, err = init(tmp_path / "a.csv", tmp_path / "b.csv", "--text", "two", "--text", "zwei", "--label", "y")
    assert code == 0, err
    specs = read_catalogues([str(tmp_path / "tasks.toml")]).specs
    assert [(spec.text, spec.label) for spec in specs.values()] == [(("two",), "y"), (("zwei",), "y")]


def test_a_guess_with_rivals_is_said(init, write, tmp_path):
    write("a.csv", ("body", "kind", "state"), [(text, label, label[::-1]) for text, label in rows()])
    code, out, _ = init(tmp_path / "a.csv")
    assert code == 0
    assert "label: kind (guess: 2 different values in 60 rows; perhaps 'state' is meant: see --label)" in out


def test_in_a_terminal_the_user_is_asked_once_for_tables_with_the_same_columns(
    write, tmp_path, tiny_base, monkeypatch, capsys
):
    for name in ("a.csv", "b.csv"):
        write(name, ("body", "kind", "state"), [(text, label, label[::-1]) for text, label in rows()])
    monkeypatch.chdir(tmp_path)
    terminal = io.StringIO("7\nstate\n")
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(sys, "argv", ["coldfusion", "init", "a.csv", "b.csv", "--skip-base"])
    with pytest.raises(SystemExit) as ended:
        main()
    out = capsys.readouterr().out
    assert not ended.value.code, out
    assert out.count("which is the label?") == 1
    assert "Answer with a number from 1 to 2" in out
    specs = read_catalogues([str(tmp_path / "tasks.toml")]).specs
    assert [spec.label for spec in specs.values()] == ["state", "state"]


def test_a_question_that_is_not_answered_ends_it(write, tmp_path, monkeypatch, capsys):
    write("a.csv", ("body", "kind", "state"), [(text, label, label[::-1]) for text, label in rows()])
    terminal = io.StringIO("")
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(sys, "argv", ["coldfusion", "init", str(tmp_path / "a.csv"), "--out", str(tmp_path / "o")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert not (tmp_path / "o").exists()


def test_nothing_is_replaced_unless_it_is_wanted(init, write, tmp_path):
    table = write("reviews.csv")
    (tmp_path / "run.toml").write_text("mine")
    code, _, err = init(table)
    assert code == 2
    assert "run.toml would be replaced" in err
    assert (tmp_path / "run.toml").read_text() == "mine"
    assert not (tmp_path / "tasks.toml").exists()
    assert init(table, "--force")[0] == 0
    assert read_settings(tmp_path / "run.toml").tasks.seen == ("reviews",)


def test_every_bad_table_is_named_and_nothing_is_written(init, write, tmp_path):
    write("good.csv")
    write("textless.csv", ("a", "b"), [(i, i % 2) for i in range(30)])
    write("one.csv", table=[(text, "same") for text, _ in rows()])
    (tmp_path / "broken.jsonl").write_text("{\n")
    (tmp_path / "damaged.csv.gz").write_bytes(b"\x1f\x8b\x08\x00")
    (tmp_path / "noise.csv").write_bytes(bytes(range(128, 256)) * 9)
    names = ("good.csv", "textless.csv", "one.csv", "broken.jsonl", "damaged.csv.gz", "noise.csv")
    code, _, err = init(*(tmp_path / name for name in names))
    assert code == 2
    assert [name in err for name in names] == [False, True, True, True, True, True]
    assert "Traceback" not in err
    assert not (tmp_path / "tasks.toml").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("none.csv",), "none.csv: this path does not exist"),
        (("a.csv", "--label", "verdikt"), "Did you mean 'verdict'?"),
        (("a.csv", "--text", "a,b,c"), "--text 'a,b,c'"),
        (("a.csv", "--metric", "f1"), "unknown metric 'f1'"),
        (("a.csv", "--metric", "spearman"), "a.csv"),
        (("a.csv", "--encoding", "utf-99"), "unknown encoding 'utf-99'"),
        (("a.csv", "--delimiter", "::"), "'delimiter' must be one character"),
        (("a.csv", "--delimiter", ";"), "a.csv"),
        (("a.csv", "--out", "a.csv"), "this is a file"),
        ((), "Missing argument"),
    ],
)
def test_a_mistake_is_explained(init, write, words, message):
    write("a.csv")
    code, _, err = init(*words)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_a_base_that_is_missing(coldfusion, write, tmp_path):
    code, _, err = coldfusion("init", write("a.csv"), "--base", "./no-such-base")
    assert code == 2
    assert "--skip-base" in err
    assert not (tmp_path / "tasks.toml").exists()
    assert coldfusion("init", tmp_path / "a.csv", "--base", "./no-such-base", "--skip-base")[0] == 0
    assert read_settings(tmp_path / "run.toml").base == "./no-such-base"


def test_strange_names_are_written_so_that_they_are_read_again(init, write, tmp_path):
    header = ('the "text", in\\full', "läbel\x7f = [x]")
    classes = ('say "no"', "# yes\n[tasks.x]")
    code, _, err = init(write("отзывы {1}.csv", header, rows(label=lambda i: classes[i % 2])))
    assert code == 0, err
    catalogue = tomllib.loads(files(tmp_path)[0])
    assert list(catalogue["tasks"]) == ["отзывы_1"]
    task = load_task("отзывы_1", (str(tmp_path / "tasks.toml"),))
    assert set(task.classes) == set(classes)
    assert read_settings(tmp_path / "run.toml").tasks.seen == ("отзывы_1",)


def test_classes_that_are_numbers_can_be_given_names(init, write, tmp_path):
    init(write("a.csv", table=rows(label=lambda i: i % 3)))
    text = files(tmp_path)[0]
    text = "\n".join(line.removeprefix("# ") if line.startswith("# labels") else line for line in text.splitlines())
    (tmp_path / "named.toml").write_text(text)
    assert load_task("a", (str(tmp_path / "named.toml"),)).classes == ("class 0", "class 1", "class 2")
