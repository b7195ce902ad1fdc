"""Arrays in safetensors files."""

import errno
from collections.abc import Mapping
from pathlib import Path

from coldfusion_fl.arrays.encoder import Encoder


def save_arrays(arrays: Encoder, file: Path, facts: Mapping[str, str] | None = None) -> None:
    """Write arrays to a file.

    Args:
        arrays: the arrays by name.
        file: the file; an existing one is replaced.
        facts: texts for the file's header.

    Raises:
        OSError: the disk is full, or the file cannot be written. safetensors itself raises a `SafetensorError`.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    try:
        save_file(dict(arrays), file, **({"metadata": dict(facts)} if facts else {}))
    except SafetensorError as failure:
        full = "No space left" in str(failure)
        raise OSError(errno.ENOSPC if full else errno.EIO, str(failure)) from None
