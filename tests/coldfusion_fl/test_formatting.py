"""Numbers and texts as pages, reports and the terminal show them, also those that nobody should report."""

import math

import pytest

from coldfusion_fl.formatting import MISSING, duration, finite, interval, number, significant, size, text

NO_NUMBERS = [None, math.nan, math.inf, -math.inf, "12", True, [1], 10**400]


@pytest.mark.parametrize("value", NO_NUMBERS, ids=range(len(NO_NUMBERS)))
def test_what_is_no_number_is_a_dash(value):
    assert finite(value) is None
    assert {number(value), significant(value), duration(value), size(value)} == {MISSING}
    assert interval(value, 1.0) == interval(1.0, value) == ""


def test_numbers_have_their_digits_and_signs():
    assert number(1234.56) == "1,234.6"
    assert number(3, 0) == "3"
    assert number(2.25, 2, signed=True) == "+2.25"
    assert number(-2.25, 2) == "−2.25"


def test_a_rounded_zero_has_no_sign():
    assert number(-0.01, signed=True) == number(0.0, signed=True) == "0.0"


def test_a_huge_number_is_short():
    assert number(1.7e308) == "1.7e+308"
    assert number(-1.7e308, signed=True) == "−1.7e+308"
    assert len(duration(1.7e308)) < 12
    assert len(size(1.7e308)) < 20


def test_durations_and_sizes_have_units():
    texts = ["4.2 s", "59 s", "1 min 1 s", "3 min 20 s", "2 h 5 min"]
    assert [duration(value) for value in (4.21, 59, 61, 200, 7500)] == texts
    assert [size(value) for value in (12, 2048, 3 << 30)] == ["12 B", "2.0 KiB", "3.0 GiB"]
    assert interval(0.46, 3.1) == "[+0.5, +3.1]"


def test_a_text_is_one_line_without_control_characters_and_not_too_long():
    assert text("a\n\x1b[31mb\u202e") == "a ?[31mb?"
    assert text("x" * 5000, 10) == "xxxxxxxxxx… (5,000 characters)"
    assert text(None) == ""
    assert text(12) == "12"
