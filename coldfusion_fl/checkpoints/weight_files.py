"""The weights of a model folder as they are stored: safetensors files, in one piece or in shards."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open

from coldfusion_fl.arrays.encoder import Encoder
from coldfusion_fl.errors import ModelError, first_line
from coldfusion_fl.model.stored_weights import weight_files

# The names of safetensors for the types that become float32.
FLOATS = ("F16", "BF16", "F32", "F64")


@dataclass(frozen=True)
class StoredArray:
    """Where an array is stored.

    Attributes:
        file: the safetensors file.
        name: its name in the file.
        shape: its shape.
        dtype: its type, as safetensors names it, such as `BF16`.
    """

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str


def read_headers(folder: Path, reference: str) -> dict[str, StoredArray]:
    """Read the headers of a folder's weights, without the weights.

    Args:
        folder: the model folder.
        reference: the folder as the user wrote it, for messages.

    Returns:
        All stored arrays, by the names that they have in the files.

    Raises:
        ModelError: a file is missing or damaged; the message names it.
    """
    found: dict[str, StoredArray] = {}
    for file in weight_files(folder, reference):
        try:
            with safe_open(file, "pt") as opened:
                for name in opened.keys():  # noqa: SIM118 (it is no mapping)
                    part = opened.get_slice(name)
                    found[name] = StoredArray(file, name, tuple(part.get_shape()), str(part.get_dtype()))
        # Another type for each version of safetensors, and an OSError for a file that cannot be read.
        except Exception as failure:
            raise ModelError(
                f"{reference}: {file.name} cannot be read: {first_line(failure).rstrip('.')}. The file is damaged or "
                "not complete. Copy or download it again."
            ) from None
    return found


class StoredEncoder(Encoder):
    """An encoder that stays in its files: each access reads one array, as float32.

    Args:
        stored: by the names of the base's arrays. Of an array with more rows than the base's, the first ones are read.
        base: the base's arrays, which stand for arrays that are not stored.
    """

    def __init__(self, stored: Mapping[str, StoredArray], base: Encoder) -> None:
        self._stored = stored
        self._base = base

    def __getitem__(self, name: str) -> np.ndarray:
        expected, stored = self._base[name], self._stored.get(name)
        if stored is None:
            return expected
        with safe_open(stored.file, "pt") as opened:
            whole = stored.shape == expected.shape
            tensor = opened.get_tensor(stored.name) if whole else opened.get_slice(stored.name)[: len(expected)]
            array: np.ndarray = tensor.to(torch.float32).numpy()
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._base)

    def __len__(self) -> int:
        return len(self._base)
