"""The hash that identifies an encoder."""

import hashlib

import numpy as np

from coldfusion_fl.arrays.encoder import Encoder


def encoder_hash(encoder: Encoder) -> str:
    """The SHA-256 over the name, dtype, shape and bytes of each array, in sorted order of names; 64 hex digits."""
    digest = hashlib.sha256()
    for name in sorted(encoder):
        array = encoder[name]  # once, because an access may read a file
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
