"""`coldfusion tasks`: the list, and what was read of the named tasks."""

import pytest


@pytest.fixture
def catalogue(tmp_path):
    """Two tasks whose rows can be read, and two whose rows cannot."""
    lines = [f"text {i},{'xy'[i % 2]}" for i in range(60)]
    (tmp_path / "rows.csv").write_text("\n".join(["text,label", *lines, ",x", "a,", "text 0,x", ""]))
    (tmp_path / "[bold].csv").write_text("\n".join(["text,label", *lines, ""]).replace(",x", ",[red]x\x1b[2J"))
    (tmp_path / "numbers.csv").write_text("\n".join(["text,label", *(f"text {i},{i}" for i in range(60)), ""]))
    (tmp_path / "c.toml").write_text(
        '[tasks.good]\ntrain = "rows.csv"\n[tasks.strange]\ntrain = "[bold].csv"\n'
        '[tasks.numbers]\ntrain = "numbers.csv"\nmetric = "spearman"\n'
        '[tasks.missing]\ntrain = "none.csv"\n[tasks.broken]\ntrain = "rows.csv"\ntext = "txt"\n'
    )
    return tmp_path / "c.toml"


def cells(line):
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_tasks_lists_sizes_classes_and_baselines(coldfusion, toy_data):
    code, out, _ = coldfusion("tasks", "--catalogue", toy_data / "toy.toml")
    assert code == 0
    row = next(line for line in out.splitlines() if line.startswith("│ b "))
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "b",
        "accuracy",
        "3",
        "60",
        "18",
        "24",
        "33.3",
    ]


def test_tasks_that_cannot_be_read_are_named(coldfusion):
    code, out, err = coldfusion("tasks", "rte", "--catalogue", "excerpts")
    assert code == 2
    assert "--data-root" in err
    code, out, err = coldfusion("tasks", "--catalogue", "excerpts")
    assert code == 2
    assert "rte" in out


def test_a_named_task_shows_its_rows_and_classes(coldfusion, catalogue):
    code, out, _ = coldfusion("tasks", "good", "--catalogue", catalogue)
    assert code == 0
    assert "63 rows read from rows.csv, 3 left out (1 without text, 1 without a label, 1 with the text" in out
    counts = {name: list(map(int, numbers)) for name, *numbers in map(cells, out.splitlines()) if name in ("x", "y")}
    assert {name: sum(numbers) for name, numbers in counts.items()} == {"x": 30, "y": 30}


def test_a_named_regression_shows_the_range_of_its_labels(coldfusion, catalogue):
    _, out, _ = coldfusion("tasks", "numbers", "--catalogue", catalogue)
    assert "labels of train: " in out


def test_all_named_tasks_are_read_although_some_are_broken(coldfusion, catalogue):
    code, out, err = coldfusion("tasks", "missing, good, broken, nope", "--catalogue", catalogue)
    assert code == 2
    assert "63 rows read" in out
    assert all(fact in err for fact in ("none.csv", "'txt'", "unknown task 'nope'"))


def test_a_catalogue_with_some_broken_tasks_is_listed(coldfusion, catalogue):
    code, out, err = coldfusion("tasks", "--catalogue", catalogue)
    assert code == 0
    assert "3 left out" in out
    assert "none.csv" in err


def test_names_of_classes_and_files_cannot_change_the_terminal(coldfusion, catalogue):
    _, out, _ = coldfusion("tasks", "strange", "--catalogue", catalogue)
    assert "[red]x?[2J" in out
    assert "[bold].csv" in out
