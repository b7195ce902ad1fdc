"""The geometry of charts."""

import itertools
import math

import pytest

from coldfusion_fl.pages.charts import Curve, Point, line_chart, point, whiskers


def chart(*curves, **options):
    return line_chart(curves, 400, 200, **options)


def test_a_higher_value_is_further_up_and_a_later_round_further_right():
    line = chart(Curve("mean", "seen", [Point(0, 0.0), Point(1, 2.0), Point(2, -1.0)])).lines[0]
    (x0, y0, _), (x1, y1, _), (x2, y2, _) = line.marks
    assert x0 < x1 < x2
    assert y1 < y0 < y2
    assert line.marks[1][2] == "round 1: +2.0"


def test_everything_is_inside_the_drawing():
    made = chart(Curve("mean", "seen", [Point(number, number**3 - 50.0, -80.0, 300.0) for number in range(7)]))
    pairs = [pair.split(",") for line in made.lines for pair in f"{line.line} {line.band}".split()]
    assert all(0 <= float(x) <= made.right and 0 <= float(y) <= made.bottom for x, y in pairs)
    assert all(0 <= y <= made.bottom for y, _ in made.y_ticks)


def test_the_interval_is_an_area_from_the_upper_ends_back_along_the_lower_ones():
    made = chart(Curve("mean", "seen", [Point(0, 0.0, 0.0, 0.0), Point(1, 2.0, 1.0, 3.0), Point(2, 2.0)]))
    assert len(made.lines[0].band.split()) == 4  # the last point has no interval


def test_one_interval_alone_is_no_area():
    made = chart(Curve("mean", "seen", [Point(0, 0.0, 0.0, 0.0), Point(1, 2.0)]))
    assert made.lines[0].band == ""


def test_rounds_are_whole_numbers():
    made = chart(Curve("mean", "seen", [Point(0, 0.0), Point(1, 1.0)]))
    assert [label for _, label in made.x_ticks] == ["0", "1"]


def test_names_do_not_cover_each_other():
    curves = [Curve(str(number), "seen", [Point(0, 0.0), Point(1, 1.0 + number / 1000)]) for number in range(4)]
    heights = sorted(line.label_y for line in chart(*curves).lines)
    assert all(below - above >= 15 for above, below in itertools.pairwise(heights))
    assert [line.label_y for line in chart(*curves, names=False).lines] == [None] * 4


def test_a_single_round_and_equal_values_can_be_drawn():
    assert chart(Curve("mean", "seen", [Point(3, 0.0)])).lines[0].marks
    assert chart(Curve("mean", "seen", [Point(0, 5.0), Point(1, 5.0)]))


def test_nothing_to_draw_is_no_chart():
    assert chart() is None
    assert chart(Curve("mean", "seen", [])) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, 1.7e308, None, "x"], ids=["nan", "inf", "huge", "none", "text"])
def test_a_value_that_cannot_be_drawn_is_no_point(value):
    assert point(0, value) is None
    assert point(0, 1.0, value, 2.0) == Point(0, 1.0)
    assert whiskers([{"frozen-difference": value}], "frozen") == [None]


def test_whiskers_of_a_table_have_one_scale():
    rows = [{"frozen-difference": 2.0, "frozen-low": 1.0, "frozen-high": 3.0}, {"frozen-difference": -1.0}]
    up, down = whiskers(rows, "frozen")
    assert up.zero == down.zero
    assert down.at < down.zero < up.low < up.at < up.high
    assert down.low is down.high is None
