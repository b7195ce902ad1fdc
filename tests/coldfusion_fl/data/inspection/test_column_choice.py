"""Which columns are the text and the label, and which metric the label needs."""

import pytest

from coldfusion_fl.data.inspection.column_choice import choose_label, choose_metric, choose_text, describe_columns

ROWS = 60
SENTENCES = [f"this is the sentence with the number {number} of them" for number in range(ROWS)]
SHORT = [f"title {number}" for number in range(ROWS)]
CLASSES = [("sports", "science", "world")[number % 3] for number in range(ROWS)]
BINARY = [str(number % 2) for number in range(ROWS)]
NUMBERS = [str(number * 7 % 60) for number in range(ROWS)]
FRACTIONS = [f"{number * 7 % 60 / 10}" for number in range(ROWS)]
DATES = [f"2024-01-{number % 28 + 1:02d}" for number in range(ROWS)]
ADDRESSES = [f"https://example.org/a/very/long/address/of/a/page/{number}" for number in range(ROWS)]


def text_of(label="", **cells):
    return choose_text(describe_columns(cells), label)


def label_of(*texts, **cells):
    return choose_label(describe_columns(cells), texts)


def test_the_longest_texts_are_the_text():
    choice = text_of(a=SHORT, b=SENTENCES, c=CLASSES, url=ADDRESSES, when=DATES)
    assert (choice.value, choice.rivals) == (("b",), ())
    assert "10 words" in choice.reason


def test_a_usual_name_counts_more_than_a_slightly_longer_text():
    longer = [f"{sentence} and more" for sentence in SENTENCES]
    assert text_of(body=SENTENCES, signature=longer).value == ("body",)


def test_texts_of_similar_length_are_rivals():
    choice = text_of(a=SENTENCES, b=SENTENCES)
    assert {*choice.value, *choice.rivals} == {"a", "b"}


@pytest.mark.parametrize(
    "names", [("premise", "hypothesis"), ("sentence1", "sentence2"), ("Text A", "Text B"), ("text", "text_pair")]
)
def test_names_of_pairs(names):
    assert text_of(**dict(zip(names, (SENTENCES, SENTENCES), strict=True)), label=CLASSES).value == names


def test_numbered_columns_without_names_are_no_pair():
    assert text_of(column_1=CLASSES, column_2=SENTENCES).value == ("column_2",)


def test_annotations_with_numbers_are_no_pair():
    assert text_of(topic1=CLASSES, topic2=CLASSES, body=SENTENCES).value == ("body",)


def test_the_column_of_the_label_is_no_text():
    assert text_of("a", a=SENTENCES, b=SHORT).value == ("b",)


def test_no_text():
    assert text_of(a=BINARY, b=NUMBERS, text=[""] * ROWS).value == ()


def test_values_that_recur_are_the_label():
    choice = label_of("a", a=SENTENCES, b=CLASSES, c=SHORT, id=NUMBERS, d=["same"] * ROWS)
    assert (choice.value, choice.rivals) == (("b",), ())


def test_a_usual_name_is_the_label():
    assert label_of("a", a=SENTENCES, site=BINARY, sentiment=CLASSES).value == ("sentiment",)
    assert label_of("a", a=SENTENCES, site=BINARY, similarity_score=FRACTIONS).value == ("similarity_score",)


def test_several_columns_that_recur_are_rivals():
    choice = label_of("a", a=SENTENCES, b=CLASSES, c=BINARY)
    assert {*choice.value, *choice.rivals} == {"b", "c"}


def test_no_label():
    assert label_of("a", a=SENTENCES, b=SHORT, id=NUMBERS, c=["x", *[""] * (ROWS - 1)]).value == ()


def test_a_name_that_no_file_can_have_is_no_column():
    assert [column.name for column in describe_columns({"\ud800": SHORT, "": SHORT, "b": SHORT})] == ["b"]


@pytest.mark.parametrize(
    ("labels", "metric", "rivals"),
    [
        (CLASSES, "accuracy", ()),
        (BINARY, "accuracy", ()),
        (["1", "2", "5", "3", "4"] * 9, "accuracy", ()),
        (FRACTIONS, "spearman", ()),
        ([str(number) for number in range(1990, 2020)], "spearman", ()),
        ([str(number % 30) for number in range(90)], "spearman", ("accuracy",)),
        ([str(number % 30 + 1) for number in range(90)], "spearman", ("accuracy",)),
        (["1.0", "2.0"] * 9, "accuracy", ()),
        ([], "accuracy", ()),
    ],
)
def test_many_numbers_are_a_regression(labels, metric, rivals):
    choice = choose_metric(labels)
    assert (choice.value, choice.rivals) == ((metric,), rivals)
