"""The weights of an encoder that finetuning leaves as they are: the setting `finetune.freeze`.

A training changes those rows of the token embedding whose tokens its texts use, and the others by weight decay alone.
So a trained embedding tells which word pieces the rows hold. Position and type embeddings tell nothing of words.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.config.settings import Freeze
from coldfusion_fl.errors import ErrorCode, ModelError
from coldfusion_fl.model.architecture import build_skeleton, get_encoder
from coldfusion_fl.model.base import Base


def frozen_weights(encoder: nn.Module, freeze: Freeze) -> dict[str, nn.Parameter]:
    """The frozen weights of an encoder by name; with `embeddings`, these are all weights of its token embedding.

    A weight that two modules share has both names.

    Raises:
        ModelError: the embeddings are to be frozen, but the encoder has no token embedding.
    """
    if freeze == "nothing":
        return {}
    try:
        embedding: nn.Module | None = encoder.get_input_embeddings()  # type: ignore[operator]
    except NotImplementedError:  # CANINE hashes characters
        embedding = None
    weights = list(embedding.parameters()) if embedding is not None else []
    if not weights:
        raise ModelError(
            f'freeze = "embeddings": {type(encoder).__name__} has no token embedding that could be frozen. Use '
            'freeze = "nothing", or another model.',
            ErrorCode.MODEL_UNSUPPORTED,
        )
    # Tensors are compared by identity; `in` would compare their values.
    frozen = {id(weight) for weight in weights}
    named = encoder.named_parameters(remove_duplicate=False)
    return {name: weight for name, weight in named if id(weight) in frozen}


def frozen_arrays(base: Base, encoder: Encoder, freeze: Freeze) -> EncoderDict:
    """Those arrays of an encoder that are frozen.

    Args:
        base: the base, for its architecture.
        encoder: arrays by name, as `encoder.load_encoder` returns them.
        freeze: what is frozen.

    Raises:
        ModelError: as `frozen_weights`.
    """
    if freeze == "nothing":
        return {}
    names = frozen_weights(get_encoder(build_skeleton(base.config, base.reference)), freeze)
    return {name: array for name, array in encoder.items() if name in names}


@contextmanager
def without_gradients(encoder: nn.Module, freeze: Freeze) -> Iterator[None]:
    """A context in which the frozen weights of an encoder have no gradients, so that no optimizer trains them.

    Raises:
        ModelError: as `frozen_weights`.
    """
    weights = [weight for weight in frozen_weights(encoder, freeze).values() if weight.requires_grad]
    for weight in weights:
        weight.requires_grad_(False)
    try:
        yield
    finally:
        for weight in weights:
            weight.requires_grad_(True)
