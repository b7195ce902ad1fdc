"""Encoders as Flower's ArrayRecords, and back, without a copy more than is needed."""

import functools
import io
import math
from collections.abc import Callable, Iterable

import numpy as np
from flwr.app import Array, ArrayRecord

from coldfusion_fl.arrays.encoder import EncoderDict
from coldfusion_fl.errors import ErrorCode, SettingsError, count

_NUMPY = "numpy.ndarray"
# Before a header's text: numpy's magic, its version and the text's length. Arrays of numbers have version 1.0.
_PREFIX = 10


class UnreadableArrayError(Exception):
    """An array of a message cannot be read; the message is a clause that says why."""


def move_to_record(encoder: EncoderDict) -> ArrayRecord:
    """An encoder's arrays by name as a record for a message. Empties `encoder`, so that memory holds it once."""
    record = ArrayRecord()
    for name in list(encoder):
        record[name] = to_array(encoder.pop(name))
    return record


def select_shared(record: ArrayRecord, is_shared: Callable[[str], bool] | None) -> ArrayRecord:
    """The arrays that are shared; None: all are.

    Raises:
        SettingsError: none is.
    """
    if is_shared is None:
        return record
    shared = ArrayRecord({name: array for name, array in record.items() if is_shared(name)})
    if not shared:
        raise SettingsError(
            f"shared_keys matches none of the {count(len(record), 'array')}, such as "
            f"{', '.join(list(record)[:5])}. Check the patterns.",
            ErrorCode.SETTINGS_CONFLICT,
        )
    return shared


def to_array(array: np.ndarray) -> Array:
    """An array as Flower's, copied once."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    flat = array.ravel(order="F") if np.isfortran(array) else array.ravel()
    data = b"".join((header.getvalue(), flat.view(np.uint8).data))
    return Array(str(array.dtype), tuple(array.shape), _NUMPY, data)


def to_numpy(record: ArrayRecord, names: Iterable[str] | None = None) -> EncoderDict:
    """A record's arrays by name: read-only views of its bytes.

    Args:
        record: whatever came.
        names: only these; None: all.

    Raises:
        UnreadableArrayError: an array is not one of numpy's, holds objects, or lacks bytes that its header declares.
    """
    return {name: _view(name, record[name]) for name in (record if names is None else names)}


def _view(name: str, array: Array) -> np.ndarray:
    if array.stype != _NUMPY:
        raise UnreadableArrayError(f"'{name}' has the serialization type '{array.stype}', but '{_NUMPY}' is required")
    start = _PREFIX + int.from_bytes(array.data[_PREFIX - 2 : _PREFIX], "little")
    try:
        shape, fortran, dtype = _header(array.data[:start])
    # Bytes from outside can make a parser raise anything.
    except Exception:
        raise UnreadableArrayError(f"'{name}' is not in NumPy's .npy format") from None
    if dtype.hasobject or dtype.kind not in "fiub":
        raise UnreadableArrayError(f"'{name}' has the dtype {dtype}, but a numeric dtype is required")
    declared, there = math.prod(shape) * dtype.itemsize, len(array.data) - start
    if declared != there:
        raise UnreadableArrayError(f"the header of '{name}' declares {declared} bytes, but {there} bytes were received")
    flat = np.frombuffer(array.data, dtype, offset=start)
    return flat.reshape(shape, order="F" if fortran else "C")


@functools.lru_cache(maxsize=4096)  # of the same array it is the same in every reply
def _header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype]:
    """The shape, whether the order is Fortran's, and the dtype that a header declares."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise ValueError("not numpy's version 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if any(size < 0 for size in shape):
        raise ValueError(f"no shape: {shape}")
    return shape, fortran, dtype
