"""How files are read: delimiters, quotes, encodings and headers, by the catalogue's keys or by what the files show."""

import gzip
import itertools
import json

import pytest

from coldfusion_fl.data.task import load_task
from coldfusion_fl.errors import DataError, ErrorCode

ROWS = 60


@pytest.fixture
def read(tmp_path):
    """Reads a file as the train split of a task; keys are lines of the catalogue."""

    numbers = itertools.count()

    def read(name, content, keys=""):
        catalogue = tmp_path / f"{next(numbers)}.toml"  # a task of one catalogue is read once
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
        catalogue.write_text(f'[tasks.t]\ntrain = "{name}"\n{keys}', encoding="utf-8")
        return load_task("t", (str(catalogue),))

    return read


def table(delimiter="\t", text="text {i}", opened=(), closed=(), header=True, end="\n"):
    """Rows with the labels x and y; the texts of some rows begin or end with a quote."""
    lines = [f"text{delimiter}label"] if header else []
    for i in range(ROWS):
        cell = '"' * (i in opened) + text.format(i=i) + '"' * (i in closed)
        lines.append(f"{cell}{delimiter}{'xy'[i % 2]}")
    return end.join([*lines, ""])


def texts(task):
    return {text for part in (task.train, task.validation, task.test) for text in part.texts}


def notes(task):
    return " ".join(task.report.notes)


@pytest.mark.parametrize("delimiter", ["\t", ","])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    ("opened", "closed"), [((5, 40), ()), ((5,), ()), ((5,), (30,)), ((5,), (6,)), ((0, 1, 2), (7,)), ((59,), ())]
)
def test_quotes_that_enclose_nothing_are_part_of_the_texts(read, delimiter, end, opened, closed):
    name = "t.tsv" if delimiter == "\t" else "t.csv"
    task = read(name, table(delimiter, opened=opened, closed=closed, end=end))
    assert texts(task) == {'"' * (i in opened) + f"text {i}" + '"' * (i in closed) for i in range(ROWS)}
    assert task.classes == ("x", "y")
    assert 'quoting = "none"' in notes(task)


@pytest.mark.parametrize("labels", ["xy", ["0.5", "1e3"]])
def test_the_labels_show_whether_a_pair_of_quotes_joins_rows(read, labels):
    """The lines of a text in quotes have no labels; those of rows between two quotes have."""
    metric = 'metric = "spearman"' if "1e3" in labels else ""
    enclosed = "".join(f'"a {i}\tb\nc"\t{labels[i % 2]}\nd {i}\t{labels[i % 2]}\n' for i in range(30))
    assert "a 7\tb\nc" in texts(read("a.tsv", "text\tlabel\n" + enclosed, metric))
    rows = table(opened=(5,), closed=(30,)).replace("\tx", f"\t{labels[0]}").replace("\ty", f"\t{labels[1]}")
    assert "text 20" in texts(read("b.tsv", rows, metric))


def test_a_quote_that_joins_lines_with_labels_of_other_rows_is_rejected(read):
    rows = ["text\tlabel", '"so he said\tanger', "normal\tjoy", 'and left"\tfear', "x\tjoy", "y\tjoy"]
    with pytest.raises(DataError, match="quoting"):
        read("rows.tsv", "\n".join([*rows, ""]))


def test_a_pair_of_quotes_with_two_readings_is_an_error_until_the_catalogue_decides(read):
    content = table(opened=(5,), closed=(30,)).replace("text 10\tx", "text 10\trare").replace("11\ty", "11\trare")
    with pytest.raises(DataError, match=r"t\.tsv, line 7.*quoting = \"none\".*quoting = \"double\"") as error:
        read("t.tsv", content)
    assert error.value.code == ErrorCode.DATA_UNREADABLE
    assert len(texts(read("t.tsv", content, 'quoting = "none"'))) == ROWS
    assert len(texts(read("t.tsv", content, 'quoting = "double"'))) == ROWS - 25


@pytest.mark.parametrize("delimiter", ["\t", ","])
def test_quoted_cells_with_delimiters_quotes_and_line_ends(read, delimiter):
    cell = f'"a ""b""{delimiter}c\r\n{{i}}"'
    task = read("t.tsv" if delimiter == "\t" else "t.csv", table(delimiter, text=cell))
    assert texts(task) == {f'a "b"{delimiter}c\r\n{i}' for i in range(ROWS)}
    assert not task.report.notes


def test_quotes_after_backslashes(read):
    task = read("t.csv", table(",", text='"He said \\"hi, {i}\\"\nand left"'))
    assert texts(task) == {f'He said "hi, {i}"\nand left' for i in range(ROWS)}
    assert 'quoting = "backslash"' in notes(task)


def test_an_open_quote_among_quoted_cells_is_an_error_with_its_line_and_the_key(read):
    content = table(",", opened=(5, 40)).replace("text 7,", '"text, 7",')
    with pytest.raises(DataError, match=r"t\.csv, line 7:.*quoting = \"none\""):
        read("t.csv", content)


def test_words_in_quotes_at_the_start_of_a_text_keep_their_quotes(read):
    assert '"Titanic" 3' in texts(read("t.tsv", table(text='"Titanic" {i}')))


def test_a_quote_that_is_not_escaped_among_quoted_cells_changes_no_other_text(read):
    lines = table(text='"text {i}"').replace('"text 7"', '"He said "hi" there"')
    assert {"text 3", "text 9"} < texts(read("t.tsv", lines))
    lines = table(text="text {i}").replace("text 7", '"He said ""hi"""').replace("text 8", '"Titanic" won')
    assert {'He said "hi"', "text 9"} < texts(read("t.csv", lines.replace("\t", ",")))


@pytest.mark.parametrize(
    ("name", "delimiter"), [("t.csv", ";"), ("t.csv", "\t"), ("t.csv", "|"), ("t.tsv", ","), ("t.txt", ";")]
)
def test_the_first_row_shows_the_delimiter(read, name, delimiter):
    task = read(name, table(delimiter))
    assert len(texts(task)) == ROWS
    assert repr(delimiter) in notes(task)


def test_a_misspelt_column_does_not_hide_the_delimiter(read):
    with pytest.raises(DataError, match="no column 'label'. Did you mean 'Label'?"):
        read("t.csv", table(";").replace("label", "Label", 1))


def test_the_usual_delimiter_is_no_guess(read):
    for name, delimiter in (("t.csv", ","), ("t.tsv", "\t"), ("t.tab", "\t"), ("t.txt", "\t"), ("t.CSV", ",")):
        assert not read(name, table(delimiter)).report.notes


def test_the_catalogue_gives_the_delimiter(read):
    assert len(texts(read("t.csv", table("~"), 'delimiter = "~"'))) == ROWS


def test_a_first_row_without_the_columns_is_an_error_that_names_the_keys(read):
    with pytest.raises(DataError, match=r"'text 0', 'x'.*'text' and 'label'.*header = .*'delimiter'") as error:
        read("t.tsv", table(header=False))
    assert error.value.code == ErrorCode.COLUMN_MISSING


@pytest.mark.parametrize("delimiter", ["\t", ";"])
def test_a_file_without_a_header(read, delimiter):
    task = read("t.tsv", table(delimiter, header=False, opened=(0, 9)), 'header = ["text", "label"]')
    assert {'"text 0', "text 1"} < texts(task)
    assert len(texts(task)) == ROWS


def test_quoted_cells_of_a_file_without_a_header(read):
    task = read("t.csv", table(",", text='"a, {i}"', header=False), 'header = ["text", "label"]')
    assert "a, 3" in texts(task)


def test_excel_names_the_delimiter_in_the_first_line(read):
    assert len(texts(read("t.csv", "sep=;\r\n" + table(";", end="\r\n")))) == ROWS


@pytest.mark.parametrize(
    ("content", "fact"),
    [(b"PK\x03\x04", "Excel"), (b"PAR1", "parquet"), (gzip.compress(b"text,label\n", mtime=0), "gz")],
)
def test_a_file_of_another_format_is_named(read, content, fact):
    with pytest.raises(DataError, match=fact):
        read("t.csv", content)


def test_an_encoding_for_a_file_in_utf8_is_a_warning(read):
    assert "UTF-8" in read("t.csv", table(",", text="é {i}"), 'encoding = "latin-1"').report.warnings[0]
    assert not read("t.csv", table(",", text="é {i}").encode("latin-1"), 'encoding = "latin-1"').report.warnings


def test_a_header_of_another_size_is_an_error(read):
    with pytest.raises(DataError, match="'header'.*3 columns.*2 cells"):
        read("t.tsv", table(header=False), 'header = ["id", "text", "label"]')


def test_two_columns_with_the_name_of_the_text_are_an_error(read):
    with pytest.raises(DataError, match=r"two columns.*'text'"):
        read("t.csv", "text,label,text\na,x,b\nc,y,d\n")
    assert read("t.csv", "id,text,label,id\n" + "".join(f"1,t{i},{'xy'[i % 2]},2\n" for i in range(ROWS)))


def test_keys_of_tables_are_rejected_for_other_files(read):
    with pytest.raises(DataError, match="'delimiter'"):
        read("t.jsonl", '{"text": "a", "label": "x"}', 'delimiter = ","')


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.csv.gz"])
def test_a_byte_order_mark_decides_the_encoding(read, name, encoding):
    content = table(",", text="é {i}")
    if "jsonl" in name:
        content = "".join(json.dumps({"text": f"é {i}", "label": "xy"[i % 2]}) + "\n" for i in range(ROWS))
    data = content.encode(encoding)
    assert "é 3" in texts(read(name, gzip.compress(data, mtime=0) if name.endswith("gz") else data))


@pytest.mark.parametrize(
    ("encoding", "proposed"),
    [("latin-1", "cp1252"), ("cp1252", "cp1252"), ("utf-16-le", "utf-16-le"), ("utf-16-be", "utf-16-be")],
)
def test_another_encoding_is_an_error_that_names_the_key(read, encoding, proposed):
    content = table(",", text="café {i}").encode(encoding)
    with pytest.raises(DataError, match=f'encoding = "{proposed}"') as error:
        read("t.csv", content)
    message = str(error.value)
    assert message.find("encoding = ") < message.find("encoding-errors") or "encoding-errors" not in message
    assert "café 3" in texts(read("t.csv", content, f'encoding = "{encoding}"'))


def test_carriage_returns_inside_the_cells_of_a_file_with_line_feeds(read):
    task = read("t.tsv", table(text="a {i}\rb"))
    assert "a 3 b" in texts(task)
    assert f"{ROWS} carriage returns" in notes(task)


def test_a_nul_character_does_not_cut_a_text(read):
    assert "a\0b 3" in texts(read("t.csv", table(",", text="a\0b {i}")))


@pytest.mark.parametrize("keep", ["all", "first"])
def test_tab_files_have_two_more_header_rows_only_if_they_are_those_of_orange(read, keep):
    orange = "string\tdiscrete\nmeta\tclass\n" if keep == "first" else ""
    assert len(texts(read("t.tab", "text\tlabel\n" + orange + table(header=False)))) == ROWS


@pytest.mark.parametrize("name", ["t.json", "t.ndjson"])
def test_json_in_other_files(read, name):
    rows = [{"text": f"t\u2028{i}", "label": "xy"[i % 2]} for i in range(ROWS)]
    content = json.dumps(rows) if name == "t.json" else "\n".join(json.dumps(r, ensure_ascii=False) for r in rows)
    assert texts(read(name, content)) == {row["text"] for row in rows}


@pytest.mark.parametrize(("name", "content"), [("t.csv", ""), ("t.csv", "\n\n"), ("t.json", "[1]"), ("t.json", "[")])
def test_files_without_rows_are_an_error(read, name, content):
    with pytest.raises(DataError, match=name) as error:
        read(name, content)
    assert error.value.code == ErrorCode.DATA_UNREADABLE
