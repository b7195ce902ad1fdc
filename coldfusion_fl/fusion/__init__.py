"""Operators that fuse contributions into one encoder.

An operator is a small frozen table of parameters that is called with the base and the contributions:
`Ties(density=0.2)(base, contributions)`. As text it is `ties(density=0.2)`. Arrays are numpy arrays by name; no
deep-learning framework is imported.

To add an operator, write a subclass of `Operator`, and add it to the registry `OPERATORS` below.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from coldfusion_fl.arrays.blocks import finite, on_all_cores
from coldfusion_fl.arrays.encoder import BlockReader, Encoder, EncoderDict, read_block, read_layout
from coldfusion_fl.arrays.running_statistics import is_running_statistic, is_variance
from coldfusion_fl.errors import FusionError
from coldfusion_fl.fusion.contribution import Contribution, Operator, limit_to_median, relative_weights
from coldfusion_fl.fusion.fisher import Fisher
from coldfusion_fl.fusion.linear import Dare, Mean, TaskArithmetic, WeightedMean
from coldfusion_fl.fusion.private import PrivateMean
from coldfusion_fl.fusion.robust import GeometricMedian, Median, TrimmedMean
from coldfusion_fl.fusion.sparse import Ties
from coldfusion_fl.fusion.spherical import Karcher

__all__ = [
    "OPERATORS",
    "Contribution",
    "Dare",
    "Encoder",
    "Fisher",
    "GeometricMedian",
    "Karcher",
    "Mean",
    "Median",
    "Operator",
    "PrivateMean",
    "TaskArithmetic",
    "Ties",
    "TrimmedMean",
    "WeightedMean",
    "fuse",
    "fuse_with_shares",
    "limit_to_median",
    "relative_weights",
]

OPERATORS: dict[str, type[Operator]] = {
    operator.name: operator
    for operator in (
        Mean,
        WeightedMean,
        TaskArithmetic,
        Ties,
        Dare,
        Median,
        TrimmedMean,
        GeometricMedian,
        Karcher,
        Fisher,
        PrivateMean,
    )
}


def fuse(operator: Operator, base: Encoder, contributions: Sequence[Contribution]) -> EncoderDict:
    """Fuse contributions: the operator fuses the floating-point arrays, and the lower median all other arrays.

    Running statistics, such as `running_var`, are averaged, whatever the operator is.

    Args:
        operator: fuses the floating-point arrays.
        base: arrays by name, of any floating-point or integer dtype.
        contributions: with the names, shapes and dtypes of the base.

    Returns:
        Arrays by name, with the names, shapes and dtypes of the base, in its order.

    Raises:
        FusionError: there is no contribution, the operator cannot fuse these, or a result is not finite.
    """
    return fuse_with_shares(operator, base, contributions)[0]


def fuse_with_shares(
    operator: Operator, base: Encoder, contributions: Sequence[Contribution]
) -> tuple[EncoderDict, Sequence[float] | None]:
    """As `fuse`, and the shares of the contributions in what the operator fuses: see `Operator.fuse_with_shares`.

    Raises:
        FusionError: as `fuse`.
    """
    if not contributions:
        raise FusionError("there is no contribution to fuse.")
    # Operators compute with real numbers, so they must not see integer arrays such as counters.
    floats = [name for name, array in base.items() if array.dtype.kind == "f"]
    statistics = [] if operator.is_average else [name for name in floats if is_running_statistic(name)]
    separate = set(statistics)
    fused: EncoderDict = {}
    shares: Sequence[float] | None = None
    for part_of, names in ((Mean(), statistics), (operator, [name for name in floats if name not in separate])):
        if names:
            parts = [replace(part, encoder=_Some(part.encoder, names)) for part in contributions]
            arrays, shares = part_of.fuse_with_shares({name: base[name] for name in names}, parts)
            fused |= arrays
    for name, array in base.items():
        if array.dtype.kind != "f":
            # Such as a batch norm's count of batches; a huge number of one contributor must not change it much.
            rows = np.sort(np.stack([part.encoder[name] for part in contributions]), axis=0)
            fused[name] = rows[(len(rows) - 1) // 2]
        elif is_variance(name):  # the noise of a private mean may bring it below 0
            fused[name] = np.maximum(fused[name], 0)
    are_finite = on_all_cores(finite, fused.values())
    for name, is_finite in zip(fused, are_finite, strict=True):
        if not is_finite:
            raise FusionError(f"the fused array '{name}' has values that are not finite (fusion {operator.name}).")
    return {name: fused[name] for name in base}, shares


class _Some(BlockReader):
    """A view of some arrays of an encoder; each array is read on access."""

    def __init__(self, encoder: Encoder, names: Sequence[str]) -> None:
        self._encoder = encoder
        self._names = names

    def __getitem__(self, name: str) -> np.ndarray:
        return self._encoder[name]

    def part(self, name: str, block: slice) -> np.ndarray:
        return read_block(self._encoder, name, block)

    def layout(self, name: str) -> tuple[np.dtype, tuple[int, ...]]:
        return read_layout(self._encoder, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
