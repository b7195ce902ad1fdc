"""Whether arrays fit a base."""

from coldfusion_fl.arrays.blocks import finite
from coldfusion_fl.arrays.encoder import Encoder


def find_mismatch(base: Encoder, contribution: Encoder) -> str | None:
    """Why a contribution cannot be fused with the base; None where it can.

    Args:
        base: the base's arrays by name: it fixes the names, shapes and dtypes.
        contribution: the arrays that came back.

    Returns:
        The first reason found, as a clause that a person understands.
    """
    if extra := sorted(contribution.keys() - base.keys()):
        return f"it has {_count(extra, 'weight')} that the base has not: {_some(extra)} (a head that should stay home?)"
    if missing := sorted(base.keys() - contribution.keys()):
        return f"it lacks {_count(missing, 'weight')} of the base: {_some(missing)}"
    for name, expected in base.items():
        array = contribution[name]
        if array.shape != expected.shape:
            return f"'{name}' has the shape {array.shape}, not the base's {expected.shape}"
        if array.dtype != expected.dtype:
            return f"'{name}' has the type {array.dtype}, not the base's {expected.dtype}"
        if not finite(array):
            return f"'{name}' holds values that are not finite (NaN or infinity)"
    return None


def _count(names: list[str], noun: str) -> str:
    return f"{len(names)} {noun}{'s' if len(names) > 1 else ''}"


def _some(names: list[str]) -> str:
    return ", ".join(f"'{name}'" for name in names[:3]) + (", ..." if len(names) > 3 else "")
