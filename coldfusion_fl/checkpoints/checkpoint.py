"""A finetuned checkpoint: opened, compared with its base, and read as an encoder of the base's names and shapes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from coldfusion_fl.arrays.encoder import Encoder, EncoderDict
from coldfusion_fl.arrays.mismatch import find_mismatch
from coldfusion_fl.checkpoints.vocabulary import compare_vocabulary
from coldfusion_fl.checkpoints.weight_files import FLOATS, StoredArray, StoredEncoder, read_headers
from coldfusion_fl.errors import ErrorCode, MismatchError, ModelError, count
from coldfusion_fl.model.architecture import build_skeleton, get_encoder, read_base_hash, read_config
from coldfusion_fl.model.base import Base, open_base, open_folder, snapshot_commit
from coldfusion_fl.model.encoder import load_encoder
from coldfusion_fl.model.export import check_export, read_licence

# What decides the shapes of an encoder's arrays, and how they are used. Names that a configuration lacks are skipped.
_STRUCTURE = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "embedding_size",
    "max_position_embeddings",
    "type_vocab_size",
    "hidden_act",
)
_POOLER = "pooler."


@dataclass(frozen=True, repr=False)
class LoadedBase:
    """A base with its weights.

    Attributes:
        base: the opened base.
        encoder: its arrays, float32.
        prefix: the name of the encoder in a model with a head, such as `bert`.
        embedding: the name of the array with one row a token; None if the architecture has none.
        licence: as `export.read_licence` returns it.
    """

    base: Base
    encoder: Encoder
    prefix: str
    embedding: str | None
    licence: Mapping[str, Any]

    def __repr__(self) -> str:
        weights = sum(array.size for array in self.encoder.values())
        return f"LoadedBase({self.base.reference!r}, {self.base.config.model_type}, {weights:,} weights)"


@dataclass(frozen=True)
class Checkpoint:
    """A finetuned checkpoint that fits its base, without its weights.

    Attributes:
        reference: the checkpoint as the user wrote it.
        folder: its local folder.
        config: its Hugging Face configuration.
        licence: as `export.read_licence` returns it.
        stored: where its arrays are stored, by the base's names; None: transformers has to rename them.
        base_sha256: the SHA-256 of the arrays of its base, which a classifier of this package has; empty: not known.
        warnings: what is left out or was guessed, as sentences.
    """

    reference: str
    folder: Path
    config: Any
    licence: Mapping[str, Any]
    stored: Mapping[str, StoredArray] | None
    base_sha256: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def revision(self) -> str:
        """The commit of a checkpoint of the Hub; empty for a folder."""
        return snapshot_commit(self.folder)


def load_base(reference: str) -> LoadedBase:
    """Open a base, check that a model folder can be made of its files, and load its weights.

    Raises:
        ModelError: as `open_base`, `check_export` and `load_encoder`.
    """
    base = open_base(reference)
    check_export(base)
    skeleton = build_skeleton(base.config, reference)
    return LoadedBase(
        base=base,
        encoder=load_encoder(base),
        prefix=str(skeleton.base_model_prefix),
        embedding=_embedding_name(get_encoder(skeleton)),
        licence=read_licence(base.folder),
    )


def _embedding_name(encoder: Any) -> str | None:
    try:
        embedding = encoder.get_input_embeddings()
    except NotImplementedError:  # CANINE hashes characters and has no token embedding
        return None
    named = (name for name, module in encoder.named_modules() if module is embedding and hasattr(module, "weight"))
    name = next(named, None)
    return None if name is None else f"{name}.weight"


def open_checkpoint(reference: str, loaded: LoadedBase) -> Checkpoint:
    """Open a checkpoint, and compare it with its base without reading its weights.

    Args:
        reference: a model folder, a run folder (its model), `package:PATH` or a Hub id; its head may be of any kind.
        loaded: the base.

    Raises:
        ModelError: the checkpoint does not exist, or a file of it is damaged.
        MismatchError: it has another architecture, vocabulary or shape than the base; the message has the figures.
    """
    folder = open_folder(reference)
    headers = read_headers(folder, reference)
    config, notes = read_config(folder, reference)
    _compare_structure(loaded.base.config, config, reference)
    stored = _match_names(headers, loaded)
    _check_layers(headers, loaded, reference)
    notes += _compare_arrays(stored, folder, config, reference, loaded)
    notes += _note_pooler(headers, stored, loaded)
    # Arrays that an old version wrote with other names, such as `LayerNorm.gamma`.
    is_renamed = any(name not in stored for name in loaded.encoder if not name.startswith(_POOLER))
    licence, base_hash = read_licence(folder), read_base_hash(folder)
    return Checkpoint(reference, folder, config, licence, None if is_renamed else stored, base_hash, tuple(notes))


def read_encoder(checkpoint: Checkpoint, loaded: LoadedBase) -> Encoder:
    """The encoder of a checkpoint in the names, shapes and types of the base.

    Args:
        checkpoint: the opened checkpoint.
        loaded: the base.

    Returns:
        float32 arrays by name. Where the file has the base's names, each access reads one array from it.

    Raises:
        ModelError: the weights cannot be loaded.
    """
    if checkpoint.stored is not None:
        return StoredEncoder(checkpoint.stored, loaded.encoder)
    as_base = replace(loaded.base, folder=checkpoint.folder, reference=checkpoint.reference, config=checkpoint.config)
    found = load_encoder(as_base)
    encoder: EncoderDict = {}
    for name, expected in loaded.encoder.items():
        array = found.get(name, expected)
        encoder[name] = array[: len(expected)] if name == loaded.embedding else array
    return encoder


def check_encoder(encoder: Encoder, checkpoint: Checkpoint, loaded: LoadedBase) -> None:
    """Check that the arrays of a checkpoint fit the base and are finite.

    Raises:
        MismatchError: they do not, or are not.
    """
    if reason := find_mismatch(loaded.encoder, encoder):
        raise MismatchError(f"{checkpoint.reference}: {reason}. Leave this checkpoint out.")


def _compare_structure(base: Any, config: Any, reference: str) -> None:
    if config.model_type != base.model_type:
        raise MismatchError(
            f"{reference}: it is a '{config.model_type}' model, and the base is a '{base.model_type}' model. Only "
            "checkpoints that were finetuned from this base can be fused."
        )
    pairs = {name: (getattr(config, name, None), getattr(base, name, None)) for name in _STRUCTURE}
    if different := [f"{name} {own} (base: {its})" for name, (own, its) in pairs.items() if own != its]:
        raise MismatchError(
            f"{reference}: its architecture differs from the base's: {', '.join(different)}. Only checkpoints that "
            "were finetuned from this base can be fused."
        )


def _match_names(headers: Mapping[str, StoredArray], loaded: LoadedBase) -> dict[str, StoredArray]:
    """The stored arrays by the base's names, as far as the files have these names."""
    found = {}
    for name in loaded.encoder:
        stored = headers.get(f"{loaded.prefix}.{name}") or headers.get(name)
        if stored is not None:
            found[name] = stored
    return found


def _check_layers(headers: Mapping[str, StoredArray], loaded: LoadedBase, reference: str) -> None:
    """Check that the files have no layers that the base lacks."""
    layers = {_without_numbers(name) for name in loaded.encoder}
    names = {name.removeprefix(f"{loaded.prefix}.") for name in headers} - loaded.encoder.keys()
    if more := sorted(name for name in names if _without_numbers(name) in layers):
        raise MismatchError(
            f"{reference}: its weights have {count(len(more), 'tensor')} of layers that the base does not have, the "
            f"first is '{more[0]}'. Only checkpoints that were finetuned from this base can be fused."
        )


def _without_numbers(name: str) -> str:
    return re.sub(r"\d+", "0", name)


def _compare_arrays(
    stored: Mapping[str, StoredArray], folder: Path, config: Any, reference: str, loaded: LoadedBase
) -> tuple[str, ...]:
    """Compare shapes and types with the base's; returns warnings about the vocabulary."""
    warnings: list[str] = []
    for name, array in stored.items():
        expected = loaded.encoder[name].shape
        if array.dtype not in FLOATS:
            raise ModelError(
                f"{reference}: '{array.name}' in {array.file.name} has the type {array.dtype}, which cannot be fused. "
                "Use the original weights in float32, float16 or bfloat16.",
                code=ErrorCode.MODEL_UNSUPPORTED,
            )
        if name == loaded.embedding and array.shape[1:] == expected[1:]:
            warnings += compare_vocabulary(loaded.base, folder, config, reference, array.shape[0], expected[0])
        elif array.shape != expected:
            raise MismatchError(
                f"{reference}: '{array.name}' in {array.file.name} has the shape {array.shape}, and the base's has "
                f"{expected}. Only checkpoints that were finetuned from this base can be fused."
            )
    return tuple(warnings)


def _note_pooler(
    headers: Mapping[str, StoredArray], stored: Mapping[str, StoredArray], loaded: LoadedBase
) -> tuple[str, ...]:
    """What happens with a pooler that only one of the two has."""
    pooler = [name for name in loaded.encoder if name.startswith(_POOLER)]
    if pooler and not any(name in stored for name in pooler):
        return ("it has no pooler. The base's pooler stands for it.",)
    if not pooler and any(name.removeprefix(f"{loaded.prefix}.").startswith(_POOLER) for name in headers):
        return ("its pooler is left out, because the base has none.",)
    return ()
