import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from coldfusion_fl.arrays.blocks import (
    BLOCK,
    allocate_together,
    blocks,
    finite,
    quick_norm,
    quick_update_norm,
    update_norm,
)


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


def test_each_array_begins_at_the_start_of_a_cache_line():
    dtypes = {"a": np.dtype(np.float32), "b": np.dtype(np.float16)}
    several = [allocate_together(dtypes, {"a": (size,), "b": (3, 5)}) for size in (*range(1, 50), BLOCK)]
    assert {array.ctypes.data % 64 for arrays_by_name in several for array in arrays_by_name.values()} == {0}


@given(
    st.sampled_from([np.float16, np.float32, np.float64]),
    st.sampled_from([1e-42, 1e-30, 1e-15, 1e-3, 1.0, 1e4, 1e18, 3e38]),
    st.sampled_from([0, 1, 7, 256, 600, BLOCK + 3]),
    st.integers(0, 20),
)
def test_norms_are_those_of_float64(dtype, size, count, seed):
    draw = np.random.default_rng(seed)
    with np.errstate(over="ignore"):
        start, end = (np.nan_to_num((size * draw.uniform(-1, 1, count)).astype(dtype)) for _ in range(2))
    wide = end.astype(np.float64)
    assert quick_norm({"a": end, "counts": np.arange(3)}) == pytest.approx(float(np.sqrt((wide**2).sum())), rel=2e-7)
    expected = float(np.sqrt(((wide - start.astype(np.float64)) ** 2).sum()))
    assert update_norm({"a": start}, {"a": end}) == pytest.approx(expected, rel=1e-12)
    assert quick_update_norm({"a": start}, {"a": end}) == pytest.approx(expected, rel=2e-7)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_quick_norms_are_as_exact_as_they_say(dtype):
    """Equal magnitudes are the worst case: each partial sum is rounded in the same direction."""
    draw = np.random.default_rng(0)
    count = 5 * BLOCK + 77
    values = {("random", 0): (1e-3 * draw.standard_normal(count), 1e-7)}
    for magnitude in (1e-4, 1.7e-3, 0.1, 1 / 3, 1.0, *draw.uniform(1, 2, 10)):
        values["equal", magnitude] = np.full(count, magnitude), 1e-6
        values["equal, of either sign", magnitude] = magnitude * draw.choice([-1, 1], count), 1e-6
    for case, (update, limit) in values.items():
        end = update.astype(dtype)
        expected = float(np.sqrt((end.astype(np.float64) ** 2).sum()))
        found = quick_update_norm({"a": np.zeros_like(end)}, {"a": end}), quick_norm({"a": end})
        assert found == pytest.approx((expected, expected), rel=limit), case


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_norm_is_finite_only_if_all_values_are(value):
    base = {"a": np.zeros(BLOCK + 5, np.float32), "b": np.zeros((), np.float32)}
    for name, place in (("a", 3), ("a", BLOCK + 4), ("b", ())):
        encoder = {key: array.copy() for key, array in base.items()}
        encoder[name][place] = value
        assert not np.isfinite(quick_update_norm(base, encoder))
        assert not np.isfinite(quick_norm(encoder))
