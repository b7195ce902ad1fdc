"""The Fisher-weighted mean: each element of the result is nearer to the contributors that are more certain of it."""

from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
from pydantic import Field

from coldfusion_fl.arrays.blocks import allocate_like, on_all_blocks
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict, read_block
from coldfusion_fl.errors import FusionError
from coldfusion_fl.fusion.contribution import MAX_TO_MEDIAN, Contribution, Operator
from coldfusion_fl.fusion.linear import one_at_a_time

# Elements of all diagonals in a block.
_BLOCK = 1 << 17


class Fisher(Operator):
    """The Fisher-weighted mean: θ' = Σ_c w_c F_c ⊙ θ_c / Σ_c w_c F_c (Matena and Raffel 2022, arXiv 2111.09832, eq. 3).

    F_c is the diagonal of a contributor's Fisher information, which it sends beside its encoder. Two limits keep a
    contributor from owning the result by what it sends; the paper has neither. Each tensor of F_c is divided by its own
    mean. In each element no F_c is above five times the lower median of all F_c. In an element where all F_c are 0 the
    result is the plain mean.

    Use it where contributors can send twice as many bytes and compute the diagonal, from `fisher-examples` rows.
    """

    name: ClassVar[str] = "fisher"
    needs_fisher: ClassVar[bool] = True
    floor: float = Field(1e-6, gt=0, description="Added to each F_c, so that no division by 0 can happen.")

    def __call__(self, base: Encoder, contributions: Iterable[Contribution]) -> EncoderDict:
        """See `Operator`; `contributions` must be a sequence."""
        return self.fuse_with_shares(base, list(one_at_a_time(contributions)))[0]

    def fuse_with_shares(
        self, base: Encoder, contributions: Sequence[Contribution]
    ) -> tuple[EncoderDict, Sequence[float] | None]:
        """See `Operator`; a share is the mean of w_c F_c / Σ_c w_c F_c over all elements."""
        parts = list(one_at_a_time(contributions))
        diagonals = [_diagonal(part) for part in parts]
        weights = np.array([[part.weight] for part in parts])
        scales = {name: np.array([[_scale(diagonal[name])] for diagonal in diagonals]) for name in base}
        fused = allocate_like(base)

        def fill(name: str, block: slice) -> np.ndarray:
            """Fuse a block, and return the sums of the contributions' shares over its elements, shape (n,)."""
            rows = np.stack([read_block(diagonal, name, block) for diagonal in diagonals]).astype(np.float64)
            information = rows * scales[name] + self.floor
            median = np.sort(information, axis=0)[(len(rows) - 1) // 2]
            share = weights * np.minimum(information, MAX_TO_MEDIAN * median)
            share /= share.sum(axis=0)
            fused[name].reshape(-1)[block] = sum(
                one * read_block(part.encoder, name, block) for one, part in zip(share, parts, strict=True)
            )
            return np.asarray(share.sum(axis=1))

        # On all cores, a block of elements at a time, so that only blocks of all contributions are in memory.
        totals = np.sum(on_all_blocks(fill, base, max(_BLOCK // len(parts), 1)), axis=0)
        return fused, [float(total) for total in totals / sum(array.size for array in base.values())]

    def rejection_reason(self, contribution: Contribution) -> str | None:
        """The diagonal must have the encoder's names and shapes, and finite values of at least 0."""
        if contribution.fisher is None:
            return "it has no Fisher diagonal, which the fusion needs"
        for name in contribution.encoder:
            array = contribution.encoder[name]
            if array.dtype.kind != "f":
                continue
            fisher = contribution.fisher.get(name)
            if fisher is None or fisher.shape != array.shape or fisher.dtype.kind != "f":
                return f"its Fisher diagonal has no array '{name}' of the encoder's shape {array.shape}"
            if not (np.isfinite(fisher).all() and (fisher >= 0).all()):
                return f"its Fisher diagonal has values in '{name}' that are negative or not finite"
        return None


def _diagonal(contribution: Contribution) -> Encoder:
    if contribution.fisher is None:
        raise FusionError(f"the contribution of '{contribution.name}' has no Fisher diagonal.")
    return contribution.fisher


def _scale(diagonal: np.ndarray) -> float:
    """What makes the mean of a diagonal 1; 0 for a diagonal of tiny numbers, which counts as zeros."""
    with np.errstate(over="ignore"):
        mean = float(diagonal.sum(dtype=np.float64)) / max(1, diagonal.size)
    return 1 / mean if mean > np.finfo(np.float32).tiny else 0.0
