import errno
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from coldfusion_fl.arrays import disk_arrays as module
from coldfusion_fl.arrays.disk_arrays import ArrayFile
from coldfusion_fl.errors import RunFolderError


@given(st.lists(arrays(np.float32, array_shapes(min_dims=0, min_side=0)), max_size=4))
def test_arrays_are_read_back_unchanged(originals):
    originals = [array if number % 2 else np.array(array, order="F") for number, array in enumerate(originals)]
    array_file = ArrayFile()
    stored = [array_file.put({"a": array, "b": np.arange(3)}) for array in originals]
    for array, back in zip(originals, stored, strict=True):
        assert back["a"].shape == array.shape
        assert back["a"].tobytes() == array.tobytes()
        assert back["b"].tolist() == [0, 1, 2]
        assert list(back) == ["a", "b"]
    array_file.close()


@given(arrays(np.float32, array_shapes(min_dims=0, min_side=0)), st.data())
def test_a_part_is_a_slice_of_the_flattened_array(array, data):
    stop = data.draw(st.integers(0, array.size))
    block = slice(data.draw(st.integers(0, stop)), stop)
    array_file = ArrayFile()
    array_file.put({"before": np.arange(3, dtype=np.int8)})
    assert array_file.put({"a": array}).part("a", block).tobytes() == array.reshape(-1)[block].tobytes()
    array_file.close()


def test_the_folder_stays_empty(tmp_path):
    array_file = ArrayFile(tmp_path)
    array_file.put({"a": np.ones(1000)})
    assert list(tmp_path.iterdir()) == []
    array_file.close()


def test_a_full_disk_is_an_error(tmp_path, monkeypatch):
    array_file = ArrayFile(tmp_path)

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module.os, "pwrite", full)
    with pytest.raises(RunFolderError) as error:
        array_file.put({"a": np.ones(3)})
    assert f"{tmp_path}: the disk is full" in str(error.value)
