"""The check that arrays fit an encoder."""

import math

from coldfusion_fl.arrays.blocks import finite, quick_norm, quick_update_norm
from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.arrays.running_statistics import without_statistics
from coldfusion_fl.errors import count

_SHOWN_NAMES = 3
# ‖θ_c − θ‖ / ‖θ‖ of a contribution is at most this. Measured with MiniLM-L6 after 40 steps of AdamW: 0.004 with a
# learning rate of 5e-5, 0.07 with 1e-3, 0.7 with 1e-2, 6.7 with 0.1, and 51 with 1, which is no training any more. With
# a small random BERT after 300 steps: 0.5 with 1e-3, and 60 with 1.
_MAX_RELATIVE_NORM = 100.0
# The root mean square that a base is taken to have at least. Transformers begin with this standard deviation, and a
# model that began at zero may be much smaller after its first round.
_SMALLEST_SIZE = 0.02


def find_mismatch(base: Encoder, contribution: Encoder) -> str | None:
    """Why a contribution cannot be fused with the base; None if it can.

    Args:
        base: the base's arrays by name. They define the names, shapes and dtypes of each contribution.
        contribution: the arrays to check.

    Returns:
        The first problem found, as a clause for a message. The checks are those of `find_other_layout`, then of
        `find_not_finite`.
    """
    return find_other_layout(base, contribution) or find_not_finite(base, contribution)


def find_other_layout(base: Encoder, contribution: Encoder) -> str | None:
    """Where a contribution has other arrays than the base, as a clause; None if it has the same.

    The checks are: an extra name, a missing name, another shape, another dtype.
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
    return None


def find_not_finite(base: Encoder, contribution: Encoder) -> str | None:
    """The first array of a contribution that holds values that are not finite, as a clause; None if all are finite."""
    for name in base:
        if not finite(contribution[name]):
            return f"'{name}' holds values that are not finite (NaN or infinity)"
    return None


class NormLimit:
    """Finds updates that are longer than any training makes them.

    They are compared with the base alone, so that the others of a round have no say in it. Running statistics do not
    count: they are no weights, and may well be far from those of the base. A base of zeros has no length to compare
    with.

    Args:
        base: the base's arrays by name.
    """

    def __init__(self, base: Encoder) -> None:
        self._weights = without_statistics(base)
        self._has_statistics = len(self._weights) < len(base)
        smallest = _SMALLEST_SIZE * math.sqrt(sum(array.size for array in self._weights.values()))
        length = quick_norm(self._weights)
        self._length = max(length, smallest) if length else math.inf

    def find_excess(self, contribution: Encoder, length: float) -> str | None:
        """Why the update of a contribution is too long, as a clause; None if it is not.

        Args:
            contribution: arrays that fit the base.
            length: ‖θ_c − θ‖₂ over all arrays.
        """
        if self._has_statistics:
            length = quick_update_norm(self._weights, contribution)
        ratio = length / self._length
        if ratio <= _MAX_RELATIVE_NORM:
            return None
        return (
            f"its update is {ratio:.3g} times as long as the base itself, which no training makes (the limit is "
            f"{_MAX_RELATIVE_NORM:g})"
        )


def _quote(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:_SHOWN_NAMES])
    return shown + (", ..." if len(names) > _SHOWN_NAMES else "")
