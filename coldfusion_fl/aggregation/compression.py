"""How a contribution travels: whole, or as its difference to the base in fewer bits.

A difference is small and of like size along a row, so that few bits tell it well; weights themselves have a thousand
times its size and would lose it. Both sides have the base: it is what the server sent in the same round. What rounding
loses can be kept and added to the next difference (error feedback; Seide et al. 2014, Interspeech, "1-bit stochastic
gradient descent"; Karimireddy et al. 2019, arXiv 1901.09847).
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
    """A contribution as it travels.

    Attributes:
        compression: one of COMPRESSIONS.
        arrays: by name; of floating-point arrays the codes, in their shape: uint16 (the upper half of a float32),
            float16 or int8. All others as they are.
        scales: with int8, by name: float32, one number for each row of the last axis; an array of 0 or 1 dimensions is
            one row.
    """

    compression: str
    arrays: EncoderDict
    scales: EncoderDict = field(default_factory=dict)


def encode(
    encoder: Encoder, base: Encoder, compression: str, lost: Encoder | None = None
) -> tuple[EncodedContribution, EncoderDict]:
    """Make a contribution small.

    Args:
        encoder: what was finetuned.
        base: what it began with, in the same names and shapes.
        compression: one of COMPRESSIONS; float32 sends the arrays as they are.
        lost: what the rounding of an earlier contribution lost, as this function returned it.

    Returns:
        What travels, and what its rounding lost: float32 arrays by name, empty where nothing is.
    """
    if compression == "float32":
        return EncodedContribution(compression, dict(encoder)), {}
    codes: EncoderDict = {}
    scales: EncoderDict = {}
    left: EncoderDict = {}
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
            # In float64, so that no difference of two float32 overflows.
            change = np.subtract(rows[piece], start[piece], dtype=np.float64)
            if before is not None:
                change += before[piece]
            if compression == "int8":
                scale[piece] = _scale(change)
            code[piece] = _encode(change, scale[piece], compression)
            rest[piece] = change - _decode(code[piece], scale[piece], compression)
        codes[name], left[name] = code.reshape(array.shape), rest.reshape(array.shape)
        if compression == "int8":
            scales[name] = scale
    return EncodedContribution(compression, codes, scales), left


def decode(encoded: EncodedContribution, base: Encoder) -> EncoderDict:
    """The contribution that was packed, but for what rounding lost.

    Args:
        encoded: what came.
        base: the round's, in the names and shapes of the contribution; other names come back as they are.

    Returns:
        Encoder by name, in the base's dtypes.

    Raises:
        CompressionError: it is of an unknown kind, or an array is not what that kind says; the message is a clause.
    """
    if encoded.compression == "float32":
        return dict(encoded.arrays)
    if encoded.compression not in _CODES:
        raise CompressionError(
            f"it travels as '{encoded.compression}', which is not known here ({', '.join(COMPRESSIONS)})"
        )
    encoder: EncoderDict = {}
    for name, code in encoded.arrays.items():
        origin = base.get(name)
        if origin is None or origin.dtype.kind != "f":
            encoder[name] = code
            continue
        if code.dtype != _CODES[encoded.compression] or code.shape != origin.shape:
            raise CompressionError(
                f"'{name}' is {code.dtype} of shape {code.shape}, not {_CODES[encoded.compression]} of the base's "
                f"shape {origin.shape} as {encoded.compression} has it"
            )
        start, rows = _rows(origin), _rows(code)
        scale = _scale_of(encoded, name, len(rows))
        whole = np.empty(rows.shape, origin.dtype)
        with np.errstate(over="ignore", invalid="ignore"):  # screening names what is not finite
            for piece in _pieces(rows):
                whole[piece] = start[piece] + _decode(rows[piece], scale[piece], encoded.compression)
        encoder[name] = whole.reshape(origin.shape)
    return encoder


def _scale_of(encoded: EncodedContribution, name: str, rows: int) -> np.ndarray:
    if encoded.compression != "int8":
        return np.ones(rows, np.float32)
    scale = encoded.scales.get(name)
    if scale is None or scale.dtype != np.float32 or scale.shape != (rows,):
        raise CompressionError(f"'{name}' has no scales: {rows} float32, one a row")
    return scale


def _rows(array: np.ndarray) -> np.ndarray:
    """An array as rows of its last axis; one of 0 or 1 dimensions, or without rows, is one."""
    return array.reshape(-1, array.shape[-1]) if array.ndim > 1 and array.size else array.reshape(1, -1)


def _pieces(rows: np.ndarray) -> list[slice]:
    """Whole rows, about a block of elements each."""
    height = max(1, BLOCK // max(1, rows.shape[1]))
    return [slice(top, top + height) for top in range(0, len(rows), height)]


def _scale(change: np.ndarray) -> np.ndarray:
    """The size of a step of each row, so that its largest change has the outermost level."""
    largest = np.abs(change).max(axis=1, initial=0)
    scale = (largest / _LEVELS).astype(np.float32)
    # Not larger by rounding, or the largest float32 would come back as infinity.
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
    # To the nearest, ties to even, as hardware does.
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _decode(code: np.ndarray, scale: np.ndarray, compression: str) -> np.ndarray:
    if compression == "int8":
        return code * scale[:, None].astype(np.float64)
    return (code if compression == "float16" else _from_upper(code)).astype(np.float64)


def _from_upper(code: np.ndarray) -> np.ndarray:
    """Float32 numbers of their upper halves."""
    return (code.astype(np.uint32) << 16).view(np.float32)
