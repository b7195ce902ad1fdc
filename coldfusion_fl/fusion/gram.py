"""Inner products of the arrays of contributions."""

from collections.abc import Sequence

import numpy as np

from coldfusion_fl.arrays.blocks import blocks
from coldfusion_fl.arrays.encoder import Encoder, read_block

# Elements of a block of one array, and at most of the blocks of all encoders.
_COLUMNS, _ELEMENTS = 1 << 15, 1 << 20


def gram(encoders: Sequence[Encoder], name: str, origin: np.ndarray | None = None) -> np.ndarray:
    """All inner products ⟨x_a − o, x_b − o⟩ of one array of n encoders, accumulated in float64.

    Args:
        encoders: n encoders, whose arrays of this name have one shape.
        name: the name of the array.
        origin: o, an array of the same shape; None: 0.

    Returns:
        Shape (n, n), float64.
    """
    # Block by block, so that neither the float64 copies nor the arrays of all encoders are in memory together.
    size = encoders[0][name].size
    zero = None if origin is None else origin.reshape(-1)
    total = np.zeros((len(encoders), len(encoders)))
    for block in blocks(size, max(1, min(_COLUMNS, _ELEMENTS // len(encoders)))):
        rows = np.stack([read_block(encoder, name, block) for encoder in encoders]).astype(np.float64)
        if zero is not None:
            rows -= zero[block]
        total += rows @ rows.T
    return total
