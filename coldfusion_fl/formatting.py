"""Numbers and texts as pages, reports and the terminal show them; none of them can make a page fail."""

import math
from typing import Any

from coldfusion_fl.sanitize import sanitize

MISSING = "–"
_LONGEST = 2000
# Above this, a number has no place in a table of points or norms, and is written with an exponent.
_LARGE = 1e6


def finite(value: Any) -> float | None:
    """A number; None for anything else, such as NaN, an infinite number or a text."""
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:  # an integer of more than 308 digits
        return None
    return number if math.isfinite(number) else None


def number(value: Any, digits: int = 1, *, signed: bool = False) -> str:
    """A number with a fixed number of digits, and a dash where there is none.

    Args:
        value: the number.
        digits: behind the decimal point.
        signed: whether a positive number has a plus sign.
    """
    found = finite(value)
    if found is None:
        return MISSING
    sign = "+" if signed else ""
    if abs(found) >= _LARGE:
        return f"{found:{sign}.3g}".replace("-", "−", 1)
    text = f"{found:{sign},.{digits}f}"
    # "-0.0" is a rounded zero.
    if text.strip("+-0.,") == "":
        return text.strip("+-")
    return text.replace("-", "−")


def significant(value: Any, digits: int = 3) -> str:
    """A number with so many significant digits, and a dash where there is none."""
    found = finite(value)
    return MISSING if found is None else f"{found:.{digits}g}"


def interval(low: Any, high: Any, digits: int = 1, *, signed: bool = True) -> str:
    """An interval, such as `[+0.5, +3.1]`; empty where there is none."""
    if finite(low) is None or finite(high) is None:
        return ""
    return f"[{number(low, digits, signed=signed)}, {number(high, digits, signed=signed)}]"


def duration(seconds: Any) -> str:
    """Seconds as text, such as `2 h 5 min`, `3 min 20 s` or `4.2 s`."""
    found = finite(seconds)
    if found is None or found < 0:
        return MISSING
    if found >= 3600 * _LARGE:
        return f"{found:.3g} s"
    if found < 10:
        return f"{found:.1f} s"
    minutes, rest = divmod(round(found), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size(count: Any) -> str:
    """A number of bytes as text, such as `1.4 GiB`."""
    found = finite(count)
    if found is None or found < 0:
        return MISSING
    for unit in ("B", "KiB", "MiB", "GiB"):
        if found < 1024:
            return f"{found:.0f} {unit}" if unit == "B" else f"{found:.1f} {unit}"
        found /= 1024
    return f"{number(found)} TiB"


def text(value: Any, longest: int = _LONGEST) -> str:
    """A text of another party on one line: without control characters, and cut where it is very long."""
    whole = sanitize(" ".join(str("" if value is None else value).split()))
    return whole if len(whole) <= longest else f"{whole[:longest]}… ({len(whole):,} characters)"
