import io

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from coldfusion_fl.strategies.nodes.array_records import UnreadableArrayError, move_to_record, to_array, to_numpy

DTYPES = st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_])


@given(DTYPES.flatmap(lambda dtype: arrays(dtype, array_shapes(min_dims=0, min_side=0))), st.booleans())
def test_it_is_flowers_own_encoding(array, fortran):
    array = np.array(array, order="F") if fortran else array
    assert to_array(array).data == Array(array).data
    back = to_numpy(ArrayRecord({"w": Array(array)}))["w"]
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_nothing_is_copied_and_nothing_can_be_overwritten():
    record = ArrayRecord({"w": Array(np.ones(1000, np.float32))})
    view = to_numpy(record)["w"]
    assert view.base is not None
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 2
    encoder = {"w": np.arange(3)}
    assert move_to_record(encoder)["w"].numpy().tolist() == [0, 1, 2]
    assert not encoder  # memory holds it once


def saved(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def header(shape, descr="<f4"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": descr, "fortran_order": False, "shape": shape})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (saved(np.array([{"run": "me"}], dtype=object), allow_pickle=True), "dtype object, but a numeric"),
        (header((2_500_000_000,)) + b"1234", "declares 10000000000 bytes, but 4 bytes were received"),
        (header((10**13, 10**13)), "declares"),
        (saved(np.ones(4, np.float32))[:-1], "declares 16 bytes, but 15 bytes were received"),
        (saved(np.ones(4, np.float32)) + b"more", "declares 16 bytes, but 20 bytes were received"),
        (saved(np.array(["text"])), "a numeric dtype"),
        (saved(np.ones(2, "datetime64[s]")), "a numeric dtype"),
        (saved(np.ones(2, [("a", "f4")])), "a numeric dtype"),
        (header((-4, -4)) + bytes(64), "not in NumPy's .npy format"),
        (b"PK\x03\x04" + b"0" * 100, "not in NumPy's .npy format"),
        (b"", "not in NumPy's .npy format"),
        (b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 70_000, "not in NumPy's .npy format"),
    ],
)
def test_hostile_bytes_are_rejected_unread(data, words):
    with pytest.raises(UnreadableArrayError) as caught:
        to_numpy(ArrayRecord({"w": Array("float32", (4,), "numpy.ndarray", data)}))
    assert words in str(caught.value)


def test_other_serialisations_are_rejected():
    with pytest.raises(UnreadableArrayError, match=r"serialization type 'torch.tensor'"):
        to_numpy(ArrayRecord({"w": Array("float32", (4,), "torch.tensor", b"")}))
