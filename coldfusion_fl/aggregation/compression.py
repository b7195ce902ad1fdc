"""Compression of contributions: in full, or as the difference from the base in fewer bits.

A difference is small, and its elements have similar sizes along a row, so few bits represent it well. Weights are about
a thousand times larger, so rounding them would lose the difference. Both sides have the base, because the server sent
it in the same round. The contributor can keep the rounding error and add it to its next difference (error feedback;
Seide et al. 2014, Interspeech, "1-bit stochastic gradient descent"; Karimireddy et al. 2019, arXiv 1901.09847).
"""

from dataclasses import dataclass, field

import numpy as np

from coldfusion_fl.arrays.blocks import BLOCK
from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.config.settings import COMPRESSIONS
from coldfusion_fl.errors import CompressionError

_CODES: dict[str, np.dtype] = {
    "bfloat16": np.dtype(np.uint16),
    "float16": np.dtype(np.float16),
    "int8": np.dtype(np.int8),
}
_LEVELS = 127


@dataclass(frozen=True)
class EncodedContribution:
    """A contribution in the form in which it is sent.

    Attributes:
        compression: one of COMPRESSIONS.
        arrays: by name. A floating-point array is sent as codes of its shape: uint16 (the upper half of a float32),
            float16 or int8. All other arrays are sent unchanged.
        scales: for int8, by name: float32, shape (rows,), one number for each row of the last axis. An array of 0 or 1
            dimensions is one row.
    """

    compression: str
    arrays: EncoderDict
    scales: EncoderDict = field(default_factory=dict)


def encode(
    encoder: Encoder, base: Encoder, compression: str, lost: Encoder | None = None
) -> tuple[EncodedContribution, EncoderDict]:
    """Encode a contribution.

    Args:
        encoder: the finetuned arrays.
        base: the arrays that the finetuning started from, in the same names and shapes.
        compression: one of COMPRESSIONS; float32 sends the arrays unchanged.
        lost: the rounding error of an earlier contribution, as this function returned it.

    Returns:
        The encoded contribution, and its rounding error: float32 arrays by name, empty if nothing was rounded.
    """
    if compression == "float32":
        return EncodedContribution(compression, dict(encoder)), {}
    # Row by row and in pieces, so that the float64 differences stay small.
    codes: EncoderDict = {}
    scales: EncoderDict = {}
    error: EncoderDict = {}
    for name, array in encoder.items():
        if array.dtype.kind != "f":
            codes[name] = array
            continue
        rows, start = _rows(array), _rows(base[name])
        before = None if lost is None or name not in lost else _rows(lost[name])
        code = np.empty(rows.shape, _CODES[compression])
        rest = np.empty(rows.shape, np.float32)
        scale = np.ones(len(rows), np.float32)
        for piece in _pieces(rows):
            # In float64, because a difference of two float32 numbers can overflow float32.
            change = np.subtract(rows[piece], start[piece], dtype=np.float64)
            if before is not None:
                change += before[piece]
            if compression == "int8":
                scale[piece] = _scale(change)
            code[piece] = _encode(change, scale[piece], compression)
            rest[piece] = change - _decode(code[piece], scale[piece], compression)
        codes[name], error[name] = code.reshape(array.shape), rest.reshape(array.shape)
        if compression == "int8":
            scales[name] = scale
    return EncodedContribution(compression, codes, scales), error


def decode(encoded: EncodedContribution, base: Encoder) -> EncoderDict:
    """Decode a contribution; it differs from the original by the rounding error.

    Args:
        encoded: the received contribution.
        base: the base of the round, in the names and shapes of the contribution. Arrays of other names are returned
            unchanged.

    Returns:
        Arrays by name, in the base's dtypes.

    Raises:
        CompressionError: the compression is unknown, or an array does not have the dtype and shape of this compression;
            the message is a clause.
    """
    if encoded.compression == "float32":
        return dict(encoded.arrays)
    if encoded.compression not in _CODES:
        raise CompressionError(
            f"its compression '{encoded.compression}' is unknown; known are {', '.join(COMPRESSIONS)}"
        )
    encoder: EncoderDict = {}
    for name, code in encoded.arrays.items():
        origin = base.get(name)
        if origin is None or origin.dtype.kind != "f":
            encoder[name] = code
            continue
        if code.dtype != _CODES[encoded.compression] or code.shape != origin.shape:
            raise CompressionError(
                f"'{name}' is {code.dtype} of shape {code.shape}, but {encoded.compression} needs "
                f"{_CODES[encoded.compression]} of the base's shape {origin.shape}"
            )
        start, rows = _rows(origin), _rows(code)
        scale = _scale_of(encoded, name, len(rows))
        whole = np.empty(rows.shape, origin.dtype)
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # the validation of the reply reports values that are not finite
            for piece in _pieces(rows):
                whole[piece] = start[piece] + _decode(rows[piece], scale[piece], encoded.compression)
        encoder[name] = whole.reshape(origin.shape)
    return encoder


def _scale_of(encoded: EncodedContribution, name: str, rows: int) -> np.ndarray:
    if encoded.compression != "int8":
        return np.ones(rows, np.float32)
    scale = encoded.scales.get(name)
    if scale is None or scale.dtype != np.float32 or scale.shape != (rows,):
        raise CompressionError(f"'{name}' needs {rows} float32 scales, one for each row")
    return scale


def _rows(array: np.ndarray) -> np.ndarray:
    """An array as rows of its last axis; an array of 0 or 1 dimensions, or without elements, is one row."""
    return array.reshape(-1, array.shape[-1]) if array.ndim > 1 and array.size else array.reshape(1, -1)


def _pieces(rows: np.ndarray) -> list[slice]:
    """Slices of whole rows, each with about BLOCK elements."""
    height = max(1, BLOCK // max(1, rows.shape[1]))
    return [slice(top, top + height) for top in range(0, len(rows), height)]


def _scale(change: np.ndarray) -> np.ndarray:
    """The scale of each row, shape (rows,), such that its largest change gets the highest level."""
    largest = np.abs(change).max(axis=1, initial=0)
    scale = (largest / _LEVELS).astype(np.float32)
    # Rounding must not make it larger, or the largest float32 would be decoded as infinity.
    return np.where(scale * np.float64(_LEVELS) > largest, np.nextafter(scale, np.float32(0)), scale)


def _encode(change: np.ndarray, scale: np.ndarray, compression: str) -> np.ndarray:
    if compression == "int8":
        steps = np.divide(change, scale[:, None], out=np.zeros_like(change), where=scale[:, None] > 0)
        return np.clip(np.rint(steps), -_LEVELS, _LEVELS).astype(np.int8)
    if compression == "float16":
        most = float(np.finfo(np.float16).max)
        return np.clip(change, -most, most).astype(np.float16)
    most = float(_from_upper(np.array([0x7F7F], np.uint16))[0])
    bits = np.clip(change, -most, most).astype(np.float32).view(np.uint32)
    # Round to nearest, ties to even, as hardware does.
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _decode(code: np.ndarray, scale: np.ndarray, compression: str) -> np.ndarray:
    if compression == "int8":
        return code * scale[:, None].astype(np.float64)
    return (code if compression == "float16" else _from_upper(code)).astype(np.float64)


def _from_upper(code: np.ndarray) -> np.ndarray:
    """The float32 numbers with these upper halves."""
    return (code.astype(np.uint32) << 16).view(np.float32)
