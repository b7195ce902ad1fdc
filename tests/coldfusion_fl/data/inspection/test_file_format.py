"""How a text file is written, guessed before its columns are known."""

import pytest

from coldfusion_fl.data.inspection.file_format import guess_format

LINES = [f"some text {number},{'good' if number % 2 else 'bad'}" for number in range(40)]


def write(file, text, encoding="utf-8"):
    file.write_bytes(text.encode(encoding))
    return file


def table(header="review,verdict", lines=LINES):
    return "\n".join([header, *lines, ""])


def test_a_usual_file_needs_no_keys(tmp_path):
    found = guess_format(write(tmp_path / "a.csv", table()), {})
    assert (found.keys, found.columns, found.notes) == ({}, ("review", "verdict"), ())


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
def test_another_delimiter_is_found(tmp_path, delimiter):
    text = table().replace(",", delimiter).replace("some text", "some, text")
    found = guess_format(write(tmp_path / "a.csv", text), {})
    assert found.keys == {"delimiter": delimiter}
    assert found.columns == ("review", "verdict")


def test_a_delimiter_that_the_file_names_needs_no_key(tmp_path):
    found = guess_format(write(tmp_path / "a.csv", "sep=;\n" + table().replace(",", ";")), {})
    assert (found.keys, found.delimiter) == ({}, ";")


def test_delimiters_and_line_ends_in_quotes_are_text(tmp_path):
    lines = [f'"one; two; {number}\nthree",x{number % 2}' for number in range(40)]
    assert guess_format(write(tmp_path / "a.csv", table(lines=lines)), {}).keys == {}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_needs_no_key(tmp_path, encoding):
    found = guess_format(write(tmp_path / "a.csv", table(), encoding), {})
    assert (found.keys, found.columns) == ({}, ("review", "verdict"))


def test_other_encodings_are_guessed_and_said(tmp_path):
    accents = table().replace("some", "né à")
    for encoding, guess in (("cp1252", "cp1252"), ("utf-16-le", "utf-16-le"), ("utf-16-be", "utf-16-be")):
        found = guess_format(write(tmp_path / "a.csv", accents, encoding), {})
        assert found.keys == {"encoding": guess}
        assert guess in found.notes[0]
    assert guess_format(write(tmp_path / "a.csv", accents, "cp850"), {"encoding": "cp850"}).keys == {
        "encoding": "cp850"
    }


@pytest.mark.parametrize("first", ["a first text,bad", "3,good", "x" * 60 + ",y"])
def test_a_file_without_a_header_gets_numbered_columns(tmp_path, first):
    found = guess_format(write(tmp_path / "a.csv", table(first)), {})
    assert found.keys == {"header": ["column_1", "column_2"]}
    assert "header" in found.notes[0]


@pytest.mark.parametrize("header", ["text,label", "body,good", "a question,b"])
def test_short_names_are_a_header(tmp_path, header):
    lines = [*LINES, "text,label"] if header == "text,label" else [line.replace("good", "fine") for line in LINES]
    assert guess_format(write(tmp_path / "a.csv", table(header, lines)), {}).columns == tuple(header.split(","))


def test_a_name_that_is_there_twice_is_no_column(tmp_path):
    lines = [f"{line},1" for line in LINES]
    assert guess_format(write(tmp_path / "a.csv", table("text,x,x", lines)), {}).columns == ("text",)


def test_formats_without_delimiters(tmp_path):
    assert guess_format(write(tmp_path / "a.jsonl", '{"text": "x"}\n'), {"delimiter": ";"}).keys == {}
    assert guess_format(tmp_path, {}).keys == {}


def test_an_empty_file_has_no_columns(tmp_path):
    assert guess_format(write(tmp_path / "a.csv", ""), {}).columns == ()
