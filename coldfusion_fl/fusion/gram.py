"""Inner products of the arrays of contributions."""

from collections.abc import Sequence

import numpy as np

_COLUMNS = 1 << 15


def gram(arrays: Sequence[np.ndarray], origin: np.ndarray | None = None) -> np.ndarray:
    """All inner products ⟨x_a − o, x_b − o⟩ of arrays of one shape, accumulated in float64.

    Args:
        arrays: n arrays of one shape.
        origin: o, an array of the same shape; None: 0.

    Returns:
        Shape (n, n), float64.
    """
    # Block by block, so that the float64 copies stay small.
    flats = [array.reshape(-1) for array in arrays]
    zero = None if origin is None else origin.reshape(-1)
    total = np.zeros((len(flats), len(flats)))
    for start in range(0, flats[0].size, _COLUMNS):
        block = slice(start, start + _COLUMNS)
        rows = np.stack([flat[block] for flat in flats]).astype(np.float64)
        if zero is not None:
            rows -= zero[block]
        total += rows @ rows.T
    return total
