"""The check that arrays fit an encoder."""

from coldfusion_fl.arrays.blocks import finite
from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.errors import count

_SHOWN_NAMES = 3


def find_mismatch(base: Encoder, contribution: Encoder) -> str | None:
    """Why a contribution cannot be fused with the base; None if it can.

    Args:
        base: the base's arrays by name. They define the names, shapes and dtypes of each contribution.
        contribution: the arrays to check.

    Returns:
        The first problem found, as a clause for a message. The checks are: an extra name, a missing name, another
        shape, another dtype, a value that is not finite.
    """
    # Names first: a head that leaks is the worst of these, and its message must not hide behind another.
    if extra := sorted(contribution.keys() - base.keys()):
        return (
            f"it has {count(len(extra), 'weight')} that the base does not have: {_quote(extra)} "
            "(a head, which must not leave its contributor?)"
        )
    if missing := sorted(base.keys() - contribution.keys()):
        return f"it lacks {count(len(missing), 'weight')} of the base: {_quote(missing)}"
    for name, expected in base.items():
        array = contribution[name]
        if array.shape != expected.shape:
            return f"'{name}' has the shape {array.shape}, not the base's {expected.shape}"
        if array.dtype != expected.dtype:
            return f"'{name}' has the type {array.dtype}, not the base's {expected.dtype}"
        if not finite(array):
            return f"'{name}' holds values that are not finite (NaN or infinity)"
    return None


def _quote(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN_NAMES])
    return shown + (", ..." if len(names) > _SHOWN_NAMES else "")
