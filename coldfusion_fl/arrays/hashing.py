"""The hash that identifies an encoder."""

import hashlib

import numpy as np

from coldfusion_fl.arrays.encoder import Encoder


def encoder_hash(encoder: Encoder) -> str:
    """The SHA-256 over the name, dtype, shape and bytes of each array, in sorted order of names; 64 hex digits."""
    digest = hashlib.sha256()
    for name in sorted(encoder):
        array = np.ascontiguousarray(encoder[name])
        digest.update(f"{name} {array.dtype.str} {encoder[name].shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
