import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from coldfusion_fl.arrays.blocks import BLOCK, allocate_together, blocks, finite


@given(st.sampled_from([np.float16, np.float32, np.float64]).flatmap(lambda dtype: arrays(dtype, array_shapes())))
def test_finite_is_what_numpy_says(array):
    assert finite(array) == np.isfinite(array).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_sum_that_overflows_is_not_taken_for_infinity(dtype):
    assert finite(np.full(10, np.finfo(dtype).max, dtype))
    assert not finite(np.array([np.inf, -np.inf], dtype))


@pytest.mark.parametrize("size", [0, 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_blocks_cover_everything_once(size):
    assert [i for block in blocks(size) for i in range(block.start, block.stop)] == list(range(size))


def test_arrays_in_one_allocation_do_not_overlap_and_are_aligned():
    dtypes = {"a": np.dtype(np.float32), "b": np.dtype(np.float64), "c": np.dtype(np.int8), "d": np.dtype(np.float32)}
    shapes = {"a": (3, 5), "b": (), "c": (0, 2), "d": (7,)}
    arrays_by_name = allocate_together(dtypes, shapes)
    for number, array in enumerate(arrays_by_name.values()):
        array[...] = number
    for number, (name, array) in enumerate(arrays_by_name.items()):
        assert (array.dtype, array.shape) == (dtypes[name], shapes[name])
        assert (array == number).all()
        assert array.flags.aligned
        assert array.flags.c_contiguous
    assert allocate_together({}, {}) == {}
