"""The node's own base: its architecture and tokenizer, and the arrays that no contributor changes."""

import functools

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.arrays.hashing import encoder_hash
from coldfusion_fl.config.settings import Freeze
from coldfusion_fl.errors import ErrorCode, MismatchError
from coldfusion_fl.model.base import Base, open_base
from coldfusion_fl.model.encoder import load_encoder
from coldfusion_fl.model.frozen_weights import frozen_arrays


@functools.lru_cache(maxsize=1)
def open_base_once(reference: str) -> Base:
    """Open a base, or return the one that this process has opened before."""
    return open_base(reference)


def add_frozen(encoder: Encoder, base: Base, freeze: Freeze, sha256: str) -> Encoder:
    """A base with the frozen arrays. The server does not send them: they are read from the node's own base.

    Args:
        encoder: the arrays that the server sent, by name.
        base: the node's own base.
        freeze: the run's setting.
        sha256: the hash of the run's frozen arrays; empty: the server sent all arrays.

    Raises:
        MismatchError: the node's own arrays are others than those of the run.
        ModelError: the node's base cannot be loaded.
    """
    if not sha256:
        return encoder
    own, own_sha256 = _read_frozen(base.reference, freeze)
    if own_sha256 != sha256:
        raise MismatchError(
            f'freeze = "{freeze}": the frozen weights of this node\'s base are not those of the run (SHA-256 '
            f"{own_sha256[:12]}, not {sha256[:12]}). Set the node's 'base' to the model that the run began with, or "
            'start a run with freeze = "nothing".',
            code=ErrorCode.ARRAYS_MISMATCH,
        )
    return {**encoder, **own}


@functools.lru_cache(maxsize=1)
def _read_frozen(reference: str, freeze: Freeze) -> tuple[EncoderDict, str]:
    """The frozen arrays of a base, and their hash; a process reads them once."""
    base = open_base_once(reference)
    found = frozen_arrays(base, load_encoder(base), freeze)
    return found, encoder_hash(found)
