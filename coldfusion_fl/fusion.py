"""Operators that fuse contributions into one encoder."""

from collections.abc import Iterable, Mapping

import numpy as np

from coldfusion_fl.errors import FusionError


def mean(contributions: Iterable[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The uniform mean of the paper: θ' = (1/|C|) Σ_c θ_c (Don-Yehiya et al. 2023, section 3).

    Not weighted by data size. The sum runs in float64, so that the result is the mean rounded once to the
    contributions' own dtype; it takes the contributions one at a time.

    Args:
        contributions: encoders with equal names, shapes and floating-point dtypes.

    Returns:
        Arrays by name, with the names, shapes and dtypes of the first contribution.

    Raises:
        FusionError: there is no contribution, or one has other names than the first.
    """
    total: dict[str, np.ndarray] = {}
    dtypes: dict[str, np.dtype] = {}
    count = 0
    for contribution in contributions:
        if not count:
            dtypes = {name: array.dtype for name, array in contribution.items()}
            total = {name: array.astype(np.float64) for name, array in contribution.items()}
        elif contribution.keys() != total.keys():
            raise FusionError("contributions with different names cannot be fused: screen them first.")
        else:
            for name, array in contribution.items():
                total[name] += array
        count += 1
    if not count:
        raise FusionError("there is no contribution to fuse.")
    return {name: (array / count).astype(dtypes[name]) for name, array in total.items()}
