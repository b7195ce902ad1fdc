"""The hash that identifies an encoder."""

import hashlib

import numpy as np

from coldfusion_fl.arrays.encoder import Encoder


def encoder_hash(encoder: Encoder) -> str:
    """The SHA-256 of an encoder: of the names, dtypes, shapes and bytes of its arrays, in sorted order of names."""
    digest = hashlib.sha256()
    for name in sorted(encoder):
        array = np.ascontiguousarray(encoder[name])
        digest.update(f"{name} {array.dtype.str} {encoder[name].shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
