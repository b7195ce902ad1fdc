"""The contributions of a round on disk, so that memory holds one of them at a time."""

import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from coldfusion_fl.arrays.encoder import BlockReader, Encoder
from coldfusion_fl.atomic_files import disk_errors

# Of one array in the file: its offset in bytes, its dtype and its shape.
_Entry = tuple[int, np.dtype, tuple[int, ...]]


class ArrayFile:
    """Arrays by name in one temporary file without a name.

    The operating system frees the file when it is closed, and also when the process is killed.

    Args:
        folder: a folder with free space; None: the system's folder for temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir())
        with disk_errors(self._folder):
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        self._end = 0

    def put(self, arrays: Encoder) -> "DiskArrays":
        """Append arrays to the file.

        Returns:
            The same arrays by name; each access reads the array from the file again.

        Raises:
            RunFolderError: the disk is full.
        """
        entries: dict[str, _Entry] = {}
        with disk_errors(self._folder):
            for name in arrays:
                array = arrays[name]  # once, because an access may read a file
                entries[name] = (self._end, array.dtype, array.shape)
                self._write(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return DiskArrays(self._file.fileno(), entries)

    def close(self) -> None:
        """Free the disk space."""
        self._file.close()

    def _write(self, data: memoryview) -> None:
        # One call may write less than all of the data.
        while data:
            written = os.pwrite(self._file.fileno(), data, self._end)
            self._end += written
            data = data[written:]


class DiskArrays(BlockReader):
    """Arrays by name that are stored in an `ArrayFile`."""

    def __init__(self, descriptor: int, entries: Mapping[str, _Entry]) -> None:
        self._descriptor = descriptor
        self._entries = entries

    def __getitem__(self, name: str) -> np.ndarray:
        offset, dtype, shape = self._entries[name]
        return self._read(offset, math.prod(shape), dtype).reshape(shape)

    def part(self, name: str, block: slice) -> np.ndarray:
        """The elements `block.start` to `block.stop` of the flattened array, shape (stop - start,)."""
        offset, dtype, _ = self._entries[name]
        return self._read(offset + block.start * dtype.itemsize, block.stop - block.start, dtype)

    def layout(self, name: str) -> tuple[np.dtype, tuple[int, ...]]:
        """The dtype and the shape of an array."""
        return self._entries[name][1:]

    def _read(self, offset: int, size: int, dtype: np.dtype) -> np.ndarray:
        array = np.empty(size, dtype)
        data = array.view(np.uint8).data
        # One call may read less than all of the data.
        while data:
            read = os.preadv(self._descriptor, [data], offset)
            offset += read
            data = data[read:]
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
