"""A round's contributions on disk: however many arrive, memory holds one."""

import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.atomic_files import disk_errors

_Place = tuple[int, np.dtype, tuple[int, ...]]


class ArrayFile:
    """Arrays by name, put aside in one nameless file.

    The file is gone when the spool is closed, and when its process is killed.

    Args:
        folder: where there is room; None: the system's folder for temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir())
        with disk_errors(self._folder):
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        self._end = 0

    def put(self, arrays: Encoder) -> "DiskArrays":
        """Write arrays; what is returned reads each of them again when it is asked for it.

        Raises:
            RunFolderError: the disk is full.
        """
        places: dict[str, _Place] = {}
        with disk_errors(self._folder):
            for name in arrays:
                array = np.ascontiguousarray(arrays[name])
                places[name] = (self._end, array.dtype, arrays[name].shape)
                self._write(array.reshape(-1).view(np.uint8).data)
        return DiskArrays(self._file.fileno(), places)

    def close(self) -> None:
        """Let go of the disk's space."""
        self._file.close()

    def _write(self, data: memoryview) -> None:
        while data:
            written = os.pwrite(self._file.fileno(), data, self._end)
            self._end += written
            data = data[written:]


class DiskArrays(Encoder):
    """Arrays by name that lie in a file."""

    def __init__(self, descriptor: int, places: Mapping[str, _Place]) -> None:
        self._descriptor = descriptor
        self._places = places

    def __getitem__(self, name: str) -> np.ndarray:
        place, dtype, shape = self._places[name]
        return self._read(place, math.prod(shape), dtype).reshape(shape)

    def part(self, name: str, block: slice) -> np.ndarray:
        """Some of an array's elements, from `start` to before `stop`, as if it were flat."""
        place, dtype, _ = self._places[name]
        return self._read(place + block.start * dtype.itemsize, block.stop - block.start, dtype)

    def _read(self, place: int, size: int, dtype: np.dtype) -> np.ndarray:
        array = np.empty(size, dtype)
        data = array.view(np.uint8).data
        while data:
            read = os.preadv(self._descriptor, [data], place)
            place += read
            data = data[read:]
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
