"""A round's contributions on disk: however many arrive, memory holds one."""

import math
import mmap
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from coldfusion_fl.durable import disk

_Place = tuple[int, np.dtype, tuple[int, ...]]
# All pages at once, where a system (Linux) can: one by one they cost more than reading.
_FLAGS = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)


class Spool:
    """Arrays by name, put aside in one nameless file.

    The file is gone when the spool is closed, and when its process is killed.

    Args:
        folder: where there is room; None: the system's folder for temporary files.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir())
        with disk(self._folder):
            self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115
        self._end = 0

    def put(self, arrays: Mapping[str, np.ndarray]) -> "Spooled":
        """Write arrays; what is returned maps each of them into memory again when it is asked for it.

        Raises:
            RunFolderError: the disk is full.
        """
        places: dict[str, _Place] = {}
        with disk(self._folder):
            for name in arrays:
                array = np.ascontiguousarray(arrays[name])
                places[name] = (self._end, array.dtype, arrays[name].shape)
                self._write(array.reshape(-1).view(np.uint8).data)
        return Spooled(self._file.fileno(), places)

    def close(self) -> None:
        """Let go of the disk's space."""
        self._file.close()

    def _write(self, data: memoryview) -> None:
        while data:
            written = os.pwrite(self._file.fileno(), data, self._end)
            self._end += written
            data = data[written:]


class Spooled(Mapping[str, np.ndarray]):
    """Arrays by name that lie in a file; each is there, read-only, for as long as something holds it."""

    def __init__(self, descriptor: int, places: Mapping[str, _Place]) -> None:
        self._descriptor = descriptor
        self._places = places

    def __getitem__(self, name: str) -> np.ndarray:
        place, dtype, shape = self._places[name]
        return self._map(place, math.prod(shape), dtype).reshape(shape)

    def part(self, name: str, block: slice) -> np.ndarray:
        """Some of an array's elements, from `start` to before `stop`, as if it were flat."""
        place, dtype, _ = self._places[name]
        array = np.empty(block.stop - block.start, dtype)
        place, data = place + block.start * dtype.itemsize, array.view(np.uint8).data
        while data:
            read = os.preadv(self._descriptor, [data], place)
            place += read
            data = data[read:]
        return array

    def _map(self, place: int, size: int, dtype: np.dtype) -> np.ndarray:
        if not size:
            return np.empty(0, dtype)  # which no system maps
        before = place % mmap.ALLOCATIONGRANULARITY
        length = before + size * dtype.itemsize
        data = mmap.mmap(self._descriptor, length, prot=mmap.PROT_READ, flags=_FLAGS, offset=place - before)
        return np.frombuffer(data, dtype, size, before)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
