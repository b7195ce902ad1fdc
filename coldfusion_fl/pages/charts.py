"""The geometry of charts; a template draws them as SVG, in the colours of the reader's scheme."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from matplotlib.ticker import MaxNLocator

from coldfusion_fl.formatting import finite, number

# A score has at most 100 points. What is far beyond any score would press all others onto one line.
_BEYOND = 1e4
_LINE = 15.0  # the height of a line of text, in pixels


@dataclass(frozen=True)
class Point:
    """A value of a curve with its interval; None: there is none."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Curve:
    """What is to be drawn as a line.

    Attributes:
        label: its name.
        kind: its style: `seen`, `unseen` or a number from 0 to 7.
        points: its values from left to right.
        is_mean: whether it is drawn bold, with markers and its interval.
    """

    label: str
    kind: str
    points: Sequence[Point]
    is_mean: bool = True


@dataclass(frozen=True)
class Line:
    """A curve as SVG.

    Attributes:
        label: its name.
        kind: its style.
        is_mean: whether it is drawn bold.
        line: the attribute `points` of its line.
        band: the same of the area of its interval; empty: it has none.
        marks: position and text of its markers.
        label_y: the height of its name at the end of the line; None: it has no name there.
    """

    label: str
    kind: str
    is_mean: bool
    line: str
    band: str
    marks: Sequence[tuple[float, float, str]]
    label_y: float | None


@dataclass(frozen=True)
class Chart:
    """A line chart as SVG; all lengths are in pixels.

    Attributes:
        width: its width.
        height: its height.
        left: where the plot begins.
        right: where it ends.
        bottom: the lower end of the plot.
        x_ticks: positions and labels of the x axis.
        y_ticks: of the y axis.
        zero: the position of 0 on the y axis; None: it is not shown.
        lines: the curves.
    """

    width: int
    height: int
    left: float
    right: float
    bottom: float
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    zero: float | None
    lines: Sequence[Line] = field(default_factory=list)


def usable(value: Any) -> float | None:
    """A number that can be drawn; None for anything else."""
    found = finite(value)
    return found if found is not None and abs(found) < _BEYOND else None


def point(x: Any, y: Any, low: Any = None, high: Any = None) -> Point | None:
    """A point of numbers that others reported; None where there is nothing to draw."""
    at, value = usable(x), usable(y)
    if at is None or value is None:
        return None
    ends = usable(low), usable(high)
    return Point(at, value, *(ends if None not in ends else (None, None)))


def line_chart(
    curves: Sequence[Curve], width: int, height: int, *, labels: int = 64, names: bool = True
) -> Chart | None:
    """The chart of some curves.

    Args:
        curves: the curves; those without points are left out.
        width: of the whole chart, in pixels.
        height: of the whole chart, in pixels.
        labels: the space right of the plot, in pixels.
        names: whether the names of bold curves are there.

    Returns:
        The chart; None where there is nothing to draw.
    """
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return None
    xs = [point.x for curve in curves for point in curve.points]
    x_low, x_high = min(xs), max(xs)
    y_low, y_high, y_ticks = _extent(_values(curves))
    left, right, top, bottom = 44.0, float(width - labels), 10.0, float(height - 26)
    # A single round has no width: its points are drawn in the middle.
    x_at = _scale(x_low, x_high, left + 6, right) if x_high > x_low else lambda _: (left + right) / 2
    y_at = _scale(y_low, y_high, bottom, top)
    most = max(2, width // 60)
    x_values = sorted({round(tick) for tick in MaxNLocator(most, integer=True).tick_values(x_low, x_high)})
    heights = _label_heights(curves, y_at, bottom) if names else {}
    return Chart(
        width, height, left, right, bottom,
        x_ticks=[(x_at(value), str(value)) for value in x_values if x_low <= value <= x_high],
        y_ticks=[(y_at(value), number(value, _digits(y_ticks), signed=True)) for value in y_ticks],
        zero=y_at(0) if y_low <= 0 <= y_high else None,
        lines=[_line(curve, x_at, y_at, heights.get(place)) for place, curve in enumerate(curves)],
    )  # fmt: skip


def _label_heights(curves: Sequence[Curve], y_at: Callable[[float], float], bottom: float) -> dict[int, float]:
    """The heights of the names of bold curves, by their place, pushed apart where they would cover each other."""
    bold = sorted((y_at(curve.points[-1].y), place) for place, curve in enumerate(curves) if curve.is_mean)
    heights: dict[int, float] = {}
    free = bottom - _LINE
    for height, place in reversed(bold):  # from the bottom, where the names of the axis are
        heights[place] = min(height, free)
        free = heights[place] - _LINE
    return heights


def _values(curves: Iterable[Curve]) -> list[float]:
    ends = [(p.y, p.low, p.high) for curve in curves for p in curve.points]
    return [value for values in ends for value in values if value is not None] + [0.0]


def _extent(values: Sequence[float]) -> tuple[float, float, list[float]]:
    """The ends of an axis and its ticks, so that the values are between the outermost ticks."""
    low, high = min(values), max(values)
    if high - low < 1e-9:
        low, high = low - 1, high + 1
    ticks = [float(tick) for tick in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high)]
    return ticks[0], ticks[-1], ticks


def _digits(ticks: Sequence[float]) -> int:
    step = ticks[1] - ticks[0]
    return 0 if step >= 1 else 1 if step >= 0.1 else 2


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    return lambda value: round(start + (value - low) / (high - low) * (end - start), 1)


def _line(curve: Curve, x_at: Callable[[float], float], y_at: Callable[[float], float], label_y: float | None) -> Line:
    positions = [(x_at(point.x), y_at(point.y)) for point in curve.points]
    marks = [(*position, f"round {point.x:g}: {number(point.y, 1, signed=True)}")
             for position, point in zip(positions, curve.points, strict=True)]  # fmt: skip
    band = ""
    if curve.is_mean:
        ends = [
            (x_at(p.x), y_at(p.low), y_at(p.high)) for p in curve.points if p.low is not None and p.high is not None
        ]
        # The first base has an interval of no width, and alone it is no area.
        ends = ends if len(ends) > 1 else []
        band = _points([(x, high) for x, _, high in ends] + [(x, low) for x, low, _ in reversed(ends)])
    return Line(curve.label, curve.kind, curve.is_mean, _points(positions), band, marks, label_y)


def _points(positions: Iterable[tuple[float, float]]) -> str:
    return " ".join(f"{x:g},{y:g}" for x, y in positions)


@dataclass(frozen=True)
class Whisker:
    """A difference with its interval on a common scale, in pixels of a drawing that is 120 wide."""

    zero: float
    at: float
    low: float | None
    high: float | None


def whiskers(rows: Sequence[Mapping[str, Any]], key: str) -> list[Whisker | None]:
    """The differences of some rows with their intervals, on one scale; None where a row has no difference.

    Args:
        rows: tables with the keys `KEY-difference`, and `KEY-low` and `KEY-high` where there is an interval.
        key: the key.
    """
    found = [point(0, row.get(f"{key}-difference"), row.get(f"{key}-low"), row.get(f"{key}-high")) for row in rows]
    values = [value for p in found if p for value in (p.y, p.low, p.high) if value is not None] + [0.0]
    low, high = min(values), max(values)
    if high - low < 1e-9:
        low, high = low - 1, high + 1
    at = _scale(low, high, 6, 114)
    return [
        None
        if p is None
        else Whisker(at(0), at(p.y), None if p.low is None else at(p.low), None if p.high is None else at(p.high))
        for p in found
    ]
